"""`import cubecast` is quick: the public names are imported when they are first used."""

import subprocess
import sys

import pytest

import cubecast

HEAVY = ("moq", "av", "numpy", "httpx", "wasmtime", "cubecast.client")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import cubecast, sys; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", sorted(set(cubecast.__all__) - {"__version__"}))
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert name in dir(cubecast)
    assert getattr(cubecast, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cubecast.nothing  # type: ignore[attr-defined]  # noqa: B018
