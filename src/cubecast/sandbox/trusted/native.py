"""Trusted native code: an extension compiled for this machine, with the same interface. It has all rights of its process.

The library is loaded from a sealed anonymous file, so that the bytes that run are those whose signature was checked. Each
instance has its own file, and therefore its own static data.
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
    INPUT_BYTES_MAX,
    MANIFEST_BYTES_MAX,
    TRACK,
    Layout,
    Manifest,
    parse_manifest,
    read_layout,
)

SEALS = fcntl.F_ADD_SEALS, 0x1 | 0x2 | 0x4 | 0x8
"""Forbids further seals, shrinking, growing and writing (fcntl(2))."""
TABLES_BYTES_MAX = INPUT_BYTES_MAX + 2 * FRAMES_MAX * FRAME.itemsize + 64 * TRACK.itemsize
"""Memory after its origin in which a library's tables must lie: enough for tables of the greatest allowed size."""
OFFSET_SIGN, OFFSET_RANGE = 1 << 31, 1 << 32
"""An offset of OFFSET_SIGN or more stands for itself minus OFFSET_RANGE: it points before the origin."""
ELF = b"\x7fELF"
"""First bytes of a shared library."""
TAIL = b"CUBECAST"
"""Last bytes of a shared library with a manifest."""
_load_count = itertools.count()


def with_native_manifest(library: bytes, manifest: Manifest) -> bytes:
    """The library with its manifest appended, so that one signature covers both; the loader ignores what is appended."""
    encoded = msgspec.json.encode(manifest)
    return library + encoded + len(encoded).to_bytes(4, "little") + TAIL


def native_manifest(library: bytes) -> Manifest:
    """The manifest at the end of a shared library.

    Raises:
        ExtensionRefused: there is none, or it is invalid.
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
    """Native code in this process; implements Code. It cannot be interrupted, so deadlines are not enforced."""

    def __init__(self, library: ctypes.CDLL, manifest: Manifest) -> None:
        """Reads the layout of a library that is loaded.

        Raises:
            ExtensionRefused: an export is missing, or its layout is invalid.
        """
        self._library = library
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
        """See Code. Nothing is checked: offsets may point anywhere in the library, before its tables too."""
        return ctypes.string_at(self._origin + (data if data < OFFSET_SIGN else data - OFFSET_RANGE), size)

    def memory_bytes(self) -> int:
        """See Code; only the tables are counted."""
        return len(self._view)

    def close(self) -> None:
        """See Code. The library stays mapped until the process ends."""

    def _memory_of(self, layout_at: int) -> memoryview:
        """The library's memory from its origin to the end of its last table."""
        whole = (ctypes.c_uint8 * TABLES_BYTES_MAX).from_address(self._origin)
        layout = read_layout(memoryview(whole).cast("B"), layout_at)
        end = max(
            layout.frames_in + layout.frames_in_max * FRAME.itemsize,
            layout.frames_out + layout.frames_out_max * FRAME.itemsize,
            layout.bytes_in + layout.bytes_in_max,
            layout.tracks + layout.tracks_max * TRACK.itemsize,
        )
        return memoryview((ctypes.c_uint8 * end).from_address(self._origin)).cast("B")

    def _function(self, name: str, parameters: tuple[type, ...], result: type = ctypes.c_int32) -> _Function:
        try:
            function = self._library[name]
        except AttributeError:
            raise ExtensionRefused(f"it does not export the function {name}") from None
        function.argtypes, function.restype = parameters, result
        return cast(_Function, function)


def _path_of(descriptor: int) -> str:
    """A path to an open file that no earlier library had: the loader does not load the same path twice.

    Descriptors are reused, so the path also encodes the number of libraries loaded so far, in binary, as `//` and `/./`.
    """
    count = next(_load_count)
    return f"/proc/self{''.join('//' if count >> bit & 1 else '/./' for bit in range(32))}fd/{descriptor}"


def sealed_library(library: bytes, name: str) -> int:
    """A descriptor of a sealed anonymous file with this content, from which `loaded_library` loads it.

    Raises:
        ExtensionRefused: it is not a shared library.
    """
    if library[:4] != ELF:
        raise ExtensionRefused("it is not a shared library")
    descriptor = os.memfd_create(f"cubecast-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with os.fdopen(os.dup(descriptor), "wb") as out:
        out.write(library)
    fcntl.fcntl(descriptor, *SEALS)
    return descriptor


def loaded_library(descriptor: int) -> ctypes.CDLL:
    """Loads a library, which runs its constructors; closes the descriptor.

    Raises:
        ExtensionRefused: it is not a shared library for this machine, or needs others that cannot be loaded.
    """
    try:
        return ctypes.CDLL(_path_of(descriptor), mode=os.RTLD_LOCAL | os.RTLD_NOW)
    except OSError as error:
        raise ExtensionRefused(f"it cannot be loaded for interface {ABI_VERSION}: {error}") from error
    finally:
        os.close(descriptor)
