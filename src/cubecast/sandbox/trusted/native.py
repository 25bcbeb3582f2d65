"""Trusted native code: the same interface, compiled for this machine. It runs with all rights of the process.

The bytes whose signature was checked are the bytes that are loaded: they go into an anonymous file, which nobody else
can write to. Each instance has a file, and so static data, of its own.
"""

import ctypes
import fcntl
import itertools
import os
from typing import Protocol, cast

import msgspec

from cubecast.errors import ExtensionRefused
from cubecast.sandbox.abi import (
    ABI_VERSION,
    FRAME,
    FRAMES_MAX,
    MANIFEST_BYTES_MAX,
    MODULE_BYTES_MAX,
    TRACK,
    Layout,
    Manifest,
    parse_manifest,
    read_layout,
)

SEALS = fcntl.F_ADD_SEALS, 0x1 | 0x2 | 0x4 | 0x8
"""No more seals, no shrinking, growing or writing (fcntl(2))."""
TABLES_BYTES_MAX = MODULE_BYTES_MAX + 2 * FRAMES_MAX * FRAME.itemsize + 64 * TRACK.itemsize
HALF, WHOLE = 1 << 31, 1 << 32
ELF = b"\x7fELF"
TAIL = b"CUBECAST"
_loaded = itertools.count()


def with_tail(library: bytes, manifest: Manifest) -> bytes:
    """A shared library with its manifest behind it, so that one signature covers both; loaders look at the front only."""
    told = msgspec.json.encode(manifest)
    return library + told + len(told).to_bytes(4, "little") + TAIL


def manifest_behind(library: bytes) -> Manifest:
    """The manifest behind a shared library.

    Raises:
        ExtensionRefused: there is none, or it is not in order.
    """
    end = len(library) - len(TAIL) - 4
    if library[:4] != ELF or end < 0 or not library.endswith(TAIL):
        raise ExtensionRefused("it has no manifest; build it with cubecast extension build --native")
    begin = end - int.from_bytes(library[end : end + 4], "little")
    if not 0 < begin <= end or end - begin > MANIFEST_BYTES_MAX:
        raise ExtensionRefused("its manifest cannot be read")
    return parse_manifest(library[begin:end])


class _Function(Protocol):
    def __call__(self, *arguments: float) -> int: ...


class NativeCode:
    """See Code. Deadlines are not kept: native code cannot be stopped; trust it only where you would run it yourself."""

    def __init__(self, library: bytes, manifest: Manifest) -> None:
        """Loads it.

        Raises:
            ExtensionRefused: it is no shared library of this machine, or lacks an export.
        """
        self._library = _load(library, manifest.name)
        self._origin = self._function("cubecast_origin", (), ctypes.c_void_p)()
        layout_at = self._function("cubecast_layout", ())()
        self._view = self._memory_of(layout_at)
        self.layout: Layout = read_layout(self._view, layout_at)
        self.init = self._function("init", (ctypes.c_int32,))
        self.process_batch = self._function("process_batch", (ctypes.c_int32,))
        if manifest.events:
            self.on_event = self._function("on_event", (ctypes.c_int32, ctypes.c_int64, ctypes.c_double))

    def memory(self) -> memoryview:
        """See Code."""
        return self._view

    def payload(self, data: int, size: int) -> bytes | None:
        """See Code. Offsets may point at anything in the library, before its tables too."""
        return ctypes.string_at(self._origin + (data if data < HALF else data - WHOLE), size)

    def memory_bytes(self) -> int:
        """See Code: of its tables."""
        return len(self._view)

    def close(self) -> None:
        """See Code. The library stays mapped until the process ends."""

    def _memory_of(self, layout_at: int) -> memoryview:
        """From its origin to the end of its last table."""
        whole = (ctypes.c_uint8 * TABLES_BYTES_MAX).from_address(self._origin)
        layout = read_layout(memoryview(whole).cast("B"), layout_at)
        end = max(
            layout.frames_in + layout.frames_in_max * FRAME.itemsize,
            layout.frames_out + layout.frames_out_max * FRAME.itemsize,
            layout.bytes_in + layout.bytes_in_max,
            layout.tracks + layout.tracks_max * TRACK.itemsize,
        )
        return memoryview((ctypes.c_uint8 * end).from_address(self._origin)).cast("B")

    def _function(self, name: str, parameters: tuple[type, ...], gives: type = ctypes.c_int32) -> _Function:
        try:
            function = self._library[name]
        except AttributeError:
            raise ExtensionRefused(f"it does not export the function {name}") from None
        function.argtypes, function.restype = parameters, gives
        return cast(_Function, function)


def _path_of(descriptor: int) -> str:
    """A path to an open file that was never used before: the loader takes a name it knows for a library it has.

    Numbers of descriptors come again, so the path counts, in single and double slashes.
    """
    count = next(_loaded)
    return f"/proc/self{''.join('//' if count >> bit & 1 else '/./' for bit in range(32))}fd/{descriptor}"


def _load(library: bytes, name: str) -> ctypes.CDLL:
    if library[:4] != ELF:
        raise ExtensionRefused("it is no shared library")
    descriptor = os.memfd_create(f"cubecast-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.truncate(descriptor, 0)
        with os.fdopen(os.dup(descriptor), "wb") as out:
            out.write(library)
        fcntl.fcntl(descriptor, *SEALS)
        return ctypes.CDLL(_path_of(descriptor), mode=os.RTLD_LOCAL | os.RTLD_NOW)
    except OSError as error:
        raise ExtensionRefused(f"it cannot be loaded for interface {ABI_VERSION}: {error}") from error
    finally:
        os.close(descriptor)
