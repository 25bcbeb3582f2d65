"""Loads extensions from files: a WebAssembly module, or trusted code with a signature."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from cubecast.cache import cache_folder
from cubecast.errors import ExtensionRefused
from cubecast.file_modes import check_not_writable_by_others
from cubecast.frames import TrackFormat
from cubecast.sandbox.abi import Manifest, manifest_of
from cubecast.sandbox.binary import MODULE_BYTES_MAX, check_counts
from cubecast.sandbox.frame_exchange import Exchange
from cubecast.sandbox.supervision import Instance
from cubecast.sandbox.trusted.messages import Language
from cubecast.sandbox.trusted.native import NativeCode, loaded_library, native_manifest, sealed_library
from cubecast.sandbox.trusted.python import python_manifest
from cubecast.sandbox.trusted.signatures import read_signature, trusted_keys, verify
from cubecast.sandbox.trusted.worker import WorkerInstance
from cubecast.sandbox.wasm.artefacts import check_cache, compiled
from cubecast.sandbox.wasm.compilation import Compilation
from cubecast.sandbox.wasm.module import ModuleCode

Loaded = TypeVar("Loaded")

SHIPPED = files("cubecast").joinpath("extensions")
"""Folder of the extensions that come with this package."""
MODULES = "modules"
"""Kind of the files in the cache of compiled modules."""
TRUSTED_SUFFIXES = {".so", ".py"}
"""File suffixes of trusted code: native and Python."""


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension that is loaded.

    Attributes:
        make: makes an instance for a stream of these tracks with these settings; raises ExtensionRefused, ExtensionFailed.
    """

    manifest: Manifest
    make: Callable[[Sequence[TrackFormat], Mapping[str, str]], Instance]


def shipped() -> list[str]:
    """Names of the extensions that come with this package."""
    return sorted(each.name for each in SHIPPED.iterdir() if each.joinpath(f"{each.name}.wasm").is_file())


def load(
    name: str,
    cache: Path | None = None,
    trusted: Path | None = None,
    *,
    confined: bool = True,
    compilation: Compilation | None = None,
) -> Extension:
    """Loads an extension from a file, or a shipped one by its name.

    Args:
        name: a WebAssembly module, or trusted code with a signature beside it: a shared library (.so) or Python (.py).
        cache: folder of compiled modules; in the user's cache folder by default.
        trusted: file with the public keys whose code may run; the user's list by default.
        confined: whether native code runs in a confined process of its own; Python code always does.
        compilation: runs the compiler of a module, and can be cancelled.

    Raises:
        ExtensionRefused: it does not exist or is invalid; the message names the file.
        LocalError: other users can write the cache or the list of keys.
    """
    file = Path(name)
    if file.suffix not in TRUSTED_SUFFIXES:
        return sandboxed(name, wasm_of(name), cache, compilation)
    try:
        return _load_trusted(file, trusted or config_folder() / "trusted-keys", confined=confined)
    except ExtensionRefused as error:
        raise ExtensionRefused(f"{name}: {error}") from error


def wasm_of(name: str) -> bytes:
    """Reads the module of an extension that may run on other hosts, from a file or a shipped one by its name.

    Raises:
        ExtensionRefused: it does not exist or is trusted code; the message names the file.
    """
    file = Path(name)
    if file.suffix in TRUSTED_SUFFIXES:
        raise ExtensionRefused(f"{name}: native and Python code can run on this host only; omit --at")
    if not file.suffix and name in shipped():
        return SHIPPED.joinpath(name, f"{name}.wasm").read_bytes()
    try:
        return read_module(file)
    except ExtensionRefused as error:
        raise ExtensionRefused(f"{name}: {error}") from error


def examine(name: str) -> None:
    """Checks what can be checked of an extension at once: that its file exists, its manifest, and how much it declares.

    Of trusted code nothing is checked.

    Raises:
        ExtensionRefused: it is not in order; the message names the file.
    """
    if Path(name).suffix in TRUSTED_SUFFIXES:
        return
    wasm = wasm_of(name)
    try:
        manifest_of(wasm)
        check_counts(wasm)
    except ExtensionRefused as error:
        raise ExtensionRefused(f"{name}: {error}") from error


async def aside(load: Callable[[Compilation], Loaded]) -> Loaded:
    """Calls a function that loads an extension, in a thread of its own; if this is cancelled, the compiler is killed.

    Args:
        load: a call of `load` or `sandboxed` with the compilation that it is given.
    """
    compilation = Compilation()
    thread = ThreadPoolExecutor(1, "load-extension")
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, load, compilation)
    finally:
        compilation.cancel()
        thread.shutdown(wait=False)


def check_module_cache() -> None:
    """Checks the user's folder of compiled modules before it is needed.

    Raises:
        LocalError: other users can write it.
    """
    check_cache(cache_folder(MODULES))


def sandboxed(name: str, wasm: bytes, cache: Path | None = None, compilation: Compilation | None = None) -> Extension:
    """Makes an extension of a WebAssembly module.

    Args:
        name: name that error messages begin with.
        cache, compilation: as in load.

    Raises:
        ExtensionRefused: the module is invalid.
        LocalError: other users can write the cache.
    """
    try:
        manifest = manifest_of(wasm)
        module = compiled(wasm, cache or cache_folder(MODULES), compilation)
    except ExtensionRefused as error:
        raise ExtensionRefused(f"{name}: {error}") from error

    def make(tracks: Sequence[TrackFormat], config: Mapping[str, str]) -> Instance:
        try:
            return Exchange(ModuleCode(module, manifest), manifest, tracks, config)
        except ExtensionRefused as error:
            raise ExtensionRefused(f"{manifest.name}: {error}") from error

    return Extension(manifest, make)


def config_folder() -> Path:
    """The user's folder of keys, in $XDG_CONFIG_HOME or ~/.config."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "cubecast"


def _load_trusted(file: Path, trusted: Path, *, confined: bool) -> Extension:
    """Loads trusted code. The file is read once, so the bytes that run are those whose signature was checked."""
    content = read_module(file)
    signature = read_signature(file)
    if not trusted.is_file():
        raise ExtensionRefused(
            f"it is trusted code, but the list of trusted keys {trusted} does not exist; see docs/extensions.md"
        )
    check_not_writable_by_others(trusted)
    verify(content, signature, trusted_keys(trusted))
    language: Language = "python" if file.suffix == ".py" else "native"
    manifest = python_manifest(content) if language == "python" else native_manifest(content)

    def make(tracks: Sequence[TrackFormat], config: Mapping[str, str]) -> Instance:
        try:
            if confined or language == "python":
                return WorkerInstance(language, content, manifest, tracks, config)
            library = loaded_library(sealed_library(content, manifest.name))
            return Exchange(NativeCode(library, manifest), manifest, tracks, config)
        except ExtensionRefused as error:
            raise ExtensionRefused(f"{manifest.name}: {error}") from error

    return Extension(manifest, make)


def read_module(file: Path) -> bytes:
    """Reads an extension's file.

    Raises:
        ExtensionRefused: it cannot be read, or is larger than MODULE_BYTES_MAX.
    """
    try:
        with file.open("rb") as opened:
            wasm = opened.read(MODULE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid file name"
        others = "" if file.suffix else f"; the shipped extensions are {', '.join(shipped())}"
        raise ExtensionRefused(f"cannot be read: {reason}{others}") from error
    if len(wasm) > MODULE_BYTES_MAX:
        raise ExtensionRefused(f"it has more than {MODULE_BYTES_MAX} bytes")
    return wasm
