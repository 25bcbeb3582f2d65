"""The lock leaves no decision to a resolver: whatever a locked package requires is pinned, extras included."""

from collections.abc import Iterable, Mapping
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path(__file__).parent.parent / "requirements.lock"
PROJECT = Requirement("cubecast[dev,lab]")

Pins = Mapping[str, Requirement]


def pins_of(lock: str) -> Pins:
    """What a lock pins on this Python and platform, by name."""
    lines = (line.split("\\")[0].strip() for line in lock.splitlines() if line[:1].isalnum())
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(pin.name): pin for pin in requirements if pin.marker is None or pin.marker.evaluate()}


def required_by(package: Requirement) -> Iterable[Requirement]:
    """What an installed package requires here, with the extras that are asked of it."""
    for text in distribution(package.name).requires or ():
        requirement = Requirement(text)
        extras = package.extras | {""}
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            yield requirement


def unpinned(pins: Pins) -> list[str]:
    """Each requirement of the project and its locked packages that the pins leave open, and whose it is."""
    wrong = []
    for package in (PROJECT, *pins.values()):
        for requirement in required_by(package):
            pin = pins.get(canonicalize_name(requirement.name))
            if pin is None or not pin.extras >= requirement.extras or not _satisfies(pin, requirement):
                wrong.append(f"{requirement} of {package.name}")
    return wrong


def _satisfies(pin: Requirement, requirement: Requirement) -> bool:
    (specifier,) = pin.specifier
    return specifier.operator == "==" and requirement.specifier.contains(specifier.version, prereleases=True)


@pytest.fixture
def lock() -> str:
    return LOCK.read_text()


def test_every_requirement_of_a_locked_package_is_pinned(lock: str) -> None:
    assert len(pins_of(lock)) > 50
    assert unpinned(pins_of(lock)) == []


def test_an_extra_that_is_not_pinned_is_noticed(lock: str) -> None:
    assert "coverage[toml]>=7.10.6 of pytest-cov" in unpinned(pins_of(lock.replace("coverage[toml]==", "coverage==")))


def test_each_pin_that_is_missing_is_noticed(lock: str) -> None:
    pins = pins_of(lock)
    missed = [name for name in pins if not unpinned({key: pin for key, pin in pins.items() if key != name})]
    assert missed == []


def test_a_pin_of_another_version_is_noticed(lock: str) -> None:
    pins = dict(pins_of(lock))
    pins["numpy"] = Requirement("numpy==1.0")
    assert any(text.startswith("numpy") for text in unpinned(pins))
