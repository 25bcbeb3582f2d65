"""Files that decide which code runs, or who may join, are not taken if other users can write them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cubecast.errors import LocalError
from cubecast.file_modes import check_not_writable_by_others
from cubecast.host.config import HostConfig
from cubecast.host.open_host import open_host
from cubecast.keys import private_key
from cubecast.sandbox.loading import check_module_cache, load
from cubecast.types import HostId

OTHERS = [0o777, 0o666, 0o664, 0o602]
"""Modes with which somebody else can write."""


def signed(folder: Path) -> tuple[Path, Path]:
    """A signed file that need not be valid, and a list of keys."""
    code, keys = folder / "code.py", folder / "keys"
    code.write_text("")
    code.with_name("code.py.sig").write_text("")
    keys.write_text("")
    return code, keys


@pytest.mark.parametrize("mode", OTHERS)
def test_a_file_that_others_can_write_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "file"
    file.touch()
    file.chmod(mode)
    with pytest.raises(LocalError, match=rf"can write {file} \(mode {mode:o}\); .*: chmod go-w {file}$"):
        check_not_writable_by_others(file)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755, 0o444])
def test_one_that_others_can_at_most_read_is_taken(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "file"
    file.touch()
    file.chmod(mode)
    check_not_writable_by_others(file)
    check_not_writable_by_others(tmp_path / "missing")


def test_what_the_error_advises_helps(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(LocalError, match=f"chmod o-w {tmp_path}$"):
        check_not_writable_by_others(file)
    tmp_path.chmod(0o1777)  # as /tmp: only owners may replace their files
    check_not_writable_by_others(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    os.chown(file, 12_345, 12_345)
    with pytest.raises(LocalError, match="belongs to another user"):
        check_not_writable_by_others(file)


@pytest.mark.parametrize("mode", OTHERS)
def test_private_keys_are_checked(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "key.pem"
    private_key(file)
    private_key(file)
    file.chmod(mode)
    with pytest.raises(LocalError, match="other users can write"):
        private_key(file)


@pytest.mark.parametrize("mode", OTHERS)
def test_lists_of_trusted_keys_are_checked(tmp_path: Path, mode: int) -> None:
    code, keys = signed(tmp_path)
    keys.chmod(mode)
    with pytest.raises(LocalError, match="other users can write"):
        load(str(code), trusted=keys)


def module_cache() -> None:
    load("thin")


@pytest.mark.parametrize("use", [module_cache, check_module_cache])
def test_the_cache_of_compiled_modules_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[[], None]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    use()
    (tmp_path / "cubecast" / "modules").mkdir(parents=True, exist_ok=True)
    (tmp_path / "cubecast" / "modules").chmod(0o777)
    with pytest.raises(LocalError, match="other users can write"):
        use()


async def test_a_host_that_runs_extensions_checks_its_cache_before_it_joins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "cubecast" / "modules").mkdir(parents=True)
    (tmp_path / "cubecast" / "modules").chmod(0o777)
    with pytest.raises(LocalError, match="other users can write"):
        async with open_host(HostConfig(HostId("host"), "http://127.0.0.1:9", "", process=1), print):
            pass
