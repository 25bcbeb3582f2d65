"""Compiled modules: made by a process of their own, kept in a bounded cache on disk, and loaded from there again.

The cache holds machine code. Each file carries an HMAC over the code and the file's name, under a key that only this user can
read; a folder or key that other users can write is an error. The name is a hash of the module and the version of the engine;
wasmtime itself refuses code that was compiled with other settings.
"""

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from wasmtime import Module, WasmtimeError

from cubecast.errors import ExtensionRefused
from cubecast.file_modes import check_not_writable_by_others
from cubecast.sandbox.binary import check_counts
from cubecast.sandbox.wasm.compilation import Compilation
from cubecast.sandbox.wasm.engine import STACK_BYTES, engine

CACHED_MAX = 64
"""Maximum number of compiled modules on disk; the least recently used are removed."""
CACHED_BYTES_MAX = 256 * 2**20
"""Maximum size of all compiled modules on disk, bytes; the least recently used are removed."""
KEY_BYTES = 32
"""Length of the cache's secret key: as long as a SHA-256 digest, as RFC 2104 recommends."""
MAC_BYTES = 32
"""Length of an HMAC-SHA-256."""


def compiled(wasm: bytes, cache_folder: Path | None = None, compilation: Compilation | None = None) -> Module:
    """Compiles a module in a process of its own, or loads it from the cache if it was compiled before.

    Args:
        cache_folder: folder of compiled modules; None for no cache.
        compilation: runs the compiler, and can be cancelled; a new one by default.

    Raises:
        ExtensionRefused: the module is invalid, imports something, or needs more than a limit.
        LocalError: other users can write the cache, or no process can be started.
    """
    check_counts(wasm)
    name = hashlib.sha256(f"{version('wasmtime')} {STACK_BYTES} ".encode() + wasm).hexdigest()
    if cache_folder is not None:
        check_cache(cache_folder)
        if (module := _from_cache(cache_folder, name)) is not None:
            return module
    artefact = (compilation or Compilation()).run(wasm)
    try:
        module = Module.deserialize(engine(), artefact)
    except WasmtimeError as error:
        raise ExtensionRefused(f"its machine code cannot be loaded: {str(error).strip().splitlines()[-1]}") from error
    if cache_folder is not None:
        with suppress(OSError):  # the cache only saves time
            _into_cache(cache_folder, name, artefact)
    return module


def check_cache(folder: Path) -> None:
    """Checks that only this user can write a folder of compiled modules and its key; they may not exist yet.

    Raises:
        LocalError: others can write it; the message says what to do.
    """
    check_not_writable_by_others(folder)
    check_not_writable_by_others(folder / "key")


def _from_cache(folder: Path, name: str) -> Module | None:
    file = folder / name
    with suppress(OSError, WasmtimeError):
        if file.stat().st_size > CACHED_BYTES_MAX:
            return None
        signed = file.read_bytes()
        code = signed[MAC_BYTES:]
        if hmac.compare_digest(signed[:MAC_BYTES], _mac(folder, name, code)):
            os.utime(file)
            return Module.deserialize(engine(), code)
    return None


def _into_cache(folder: Path, name: str, code: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = folder / f"{name}.{secrets.token_hex(4)}.new"
    new.write_bytes(_mac(folder, name, code) + code)
    new.replace(folder / name)
    modules = sorted(
        (file for file in folder.iterdir() if len(file.name) == len(name)), key=lambda file: file.stat().st_mtime
    )
    total = sum(file.stat().st_size for file in modules)
    while modules and (len(modules) > CACHED_MAX or total > CACHED_BYTES_MAX):
        oldest = modules.pop(0)
        total -= oldest.stat().st_size
        oldest.unlink(missing_ok=True)


def _mac(folder: Path, name: str, code: bytes) -> bytes:
    return hmac.digest(_key(folder), name.encode() + code, "sha256")


def _key(folder: Path) -> bytes:
    """The secret key of a cache folder, created at first use."""
    file = folder / "key"
    with suppress(FileNotFoundError):
        key = file.read_bytes()
        if len(key) == KEY_BYTES:
            return key
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = folder / f"key.{secrets.token_hex(4)}"
    descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(secrets.token_bytes(KEY_BYTES))
    new.replace(file)
    return file.read_bytes()
