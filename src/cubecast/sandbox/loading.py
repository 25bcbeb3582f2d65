"""An extension's file, ready to make instances of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from cubecast.errors import ExtensionRefused
from cubecast.frames import TrackFormat
from cubecast.sandbox.abi import MODULE_BYTES_MAX, Manifest, manifest_of
from cubecast.sandbox.instance import ModuleInstance
from cubecast.sandbox.machine import cache_folder, compiled
from cubecast.sandbox.supervision import Instance

SHIPPED = files("cubecast").joinpath("extensions")


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


def load(name: str, cache: Path | None = None) -> Extension:
    """The extension in a file, or one that is shipped, by its name.

    Args:
        cache: where compiled modules are kept; the user's cache by default.

    Raises:
        ExtensionRefused: there is none, or it is not in order; the line names the file.
    """
    file = Path(name)
    wasm: bytes
    try:
        if not file.suffix and name in shipped():
            wasm = SHIPPED.joinpath(name, f"{name}.wasm").read_bytes()
        else:
            wasm = read_module(file)
        manifest = manifest_of(wasm)
        module = compiled(wasm, cache or cache_folder())
    except ExtensionRefused as error:
        raise ExtensionRefused(f"{name}: {error}") from error

    def make(tracks: Sequence[TrackFormat], config: Mapping[str, str]) -> Instance:
        try:
            return ModuleInstance(module, manifest, tracks, config)
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
