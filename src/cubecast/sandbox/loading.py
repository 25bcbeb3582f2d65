"""An extension's file, ready to make instances of."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from cubecast.errors import ExtensionRefused
from cubecast.frames import TrackFormat
from cubecast.sandbox.abi import MODULE_BYTES_MAX, Manifest, manifest_of
from cubecast.sandbox.frame_exchange import Exchange
from cubecast.sandbox.supervision import Instance
from cubecast.sandbox.trusted.native import NativeCode, manifest_behind
from cubecast.sandbox.trusted.python import manifest_in
from cubecast.sandbox.trusted.signatures import read_signature, trusted_keys, verify
from cubecast.sandbox.trusted.worker import Language, WorkerInstance
from cubecast.sandbox.wasm.engine import cache_folder, compiled
from cubecast.sandbox.wasm.module import ModuleCode

SHIPPED = files("cubecast").joinpath("extensions")
TRUSTED_SUFFIXES = {".so", ".py"}


@dataclass(frozen=True, slots=True)
class Extension:
    """Code that can be put to work.

    Attributes:
        make: an instance for a stream of these tracks with these settings; raises ExtensionRefused, ExtensionFailed.
    """

    manifest: Manifest
    make: Callable[[Sequence[TrackFormat], Mapping[str, str]], Instance]


def shipped() -> list[str]:
    """Names of the extensions that come with this package."""
    return sorted(each.name for each in SHIPPED.iterdir() if each.joinpath(f"{each.name}.wasm").is_file())


def load(name: str, cache: Path | None = None, trusted: Path | None = None, *, confined: bool = True) -> Extension:
    """The extension in a file, or one that is shipped, by its name.

    Args:
        name: a WebAssembly module, or trusted code with a signature beside it: a shared library (.so) or Python (.py).
        cache: where compiled modules are kept; the user's cache by default.
        trusted: the list of keys whose code is run; the user's list by default.
        confined: native code gets a process of its own that can only compute; Python always does.

    Raises:
        ExtensionRefused: there is none, or it is not in order; the line names the file.
    """
    file = Path(name)
    if file.suffix not in TRUSTED_SUFFIXES:
        return sandboxed(name, wasm_of(name), cache)
    try:
        return _load_trusted(file, trusted or config_folder() / "trusted-keys", confined=confined)
    except ExtensionRefused as error:
        raise ExtensionRefused(f"{name}: {error}") from error


def wasm_of(name: str) -> bytes:
    """The module in a file, or of an extension that is shipped: what may be run on other hosts.

    Raises:
        ExtensionRefused: there is none, or it is trusted code; the line names the file.
    """
    file = Path(name)
    if file.suffix in TRUSTED_SUFFIXES:
        raise ExtensionRefused(f"{name}: native and Python code runs on its owner's host only; leave --at out")
    if not file.suffix and name in shipped():
        return SHIPPED.joinpath(name, f"{name}.wasm").read_bytes()
    try:
        return read_module(file)
    except ExtensionRefused as error:
        raise ExtensionRefused(f"{name}: {error}") from error


def sandboxed(name: str, wasm: bytes, cache: Path | None = None) -> Extension:
    """A module as an extension.

    Args:
        name: what complaints begin with.
        cache: as in load.

    Raises:
        ExtensionRefused: it is not in order.
    """
    try:
        manifest = manifest_of(wasm)
        module = compiled(wasm, cache or cache_folder())
    except ExtensionRefused as error:
        raise ExtensionRefused(f"{name}: {error}") from error

    def make(tracks: Sequence[TrackFormat], config: Mapping[str, str]) -> Instance:
        try:
            return Exchange(ModuleCode(module, manifest), manifest, tracks, config)
        except ExtensionRefused as error:
            raise ExtensionRefused(f"{manifest.name}: {error}") from error

    return Extension(manifest, make)


def config_folder() -> Path:
    """Where a user's keys lie unless told otherwise."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "cubecast"


def _load_trusted(file: Path, trusted: Path, *, confined: bool) -> Extension:
    """Trusted code: the bytes whose signature is checked are the bytes that are run."""
    content = read_module(file)
    signature = read_signature(file)
    if not trusted.is_file():
        raise ExtensionRefused(
            f"it is trusted code, and there is no list of trusted keys ({trusted}); see docs/extensions.md"
        )
    verify(content, signature, trusted_keys(trusted))
    language: Language = "python" if file.suffix == ".py" else "native"
    manifest = manifest_in(content) if language == "python" else manifest_behind(content)

    def make(tracks: Sequence[TrackFormat], config: Mapping[str, str]) -> Instance:
        try:
            if confined or language == "python":
                return WorkerInstance(language, content, manifest, tracks, config)
            return Exchange(NativeCode(content, manifest), manifest, tracks, config)
        except ExtensionRefused as error:
            raise ExtensionRefused(f"{manifest.name}: {error}") from error

    return Extension(manifest, make)


def read_module(file: Path) -> bytes:
    """A file's bytes, if they can be a module's.

    Raises:
        ExtensionRefused: it cannot be read, or is too large.
    """
    try:
        with file.open("rb") as opened:
            wasm = opened.read(MODULE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file has such a name"
        others = "" if file.suffix else f"; shipped extensions are {', '.join(shipped())}"
        raise ExtensionRefused(f"cannot be read: {reason}{others}") from error
    if len(wasm) > MODULE_BYTES_MAX:
        raise ExtensionRefused(f"it has more than {MODULE_BYTES_MAX} bytes")
    return wasm
