"""The binary interface between a host and an extension, version 1. The C side is toolchain/cubecast.h; docs/abi.md tells it.

A module exports its memory and four functions, imports nothing, and keeps all buffers in its own memory:

- `cubecast_layout() -> i32`: where its `LAYOUT` lies; asked once.
- `init(bytes) -> i32`: so many bytes of configuration, lines of `key=value`, lie in the byte buffer, and the tracks of
  the stream in the track table, which it may change: what it leaves there are the tracks it emits. 0, or an error.
- `process_batch(n) -> i32`: n frames lie in the frame table, in decoding order. How many it has put into the table of
  frames out, or an error. Their data may lie anywhere in its memory, in the bytes that came in too.
- `on_event(kind, time_us, value) -> i32`, only where its manifest asks for events: as process_batch.

Errors are negative numbers. What the manifest says stands in a custom section, so that a file is complete.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from cubecast.errors import ExtensionRefused
from cubecast.frames import Kind

ABI_VERSION = 1
SECTION = "cubecast"
MODULE_BYTES_MAX = 16 * 2**20
MANIFEST_BYTES_MAX = 64 * 1024
FRAMES_MAX = 4096
TRACKS_MAX = 16
MAGIC = b"\0asm\1\0\0\0"
SMALL = "[a-z0-9][a-z0-9._-]*"

FRAME = np.dtype(
    [
        ("pts_us", "<i8"),
        ("dts_us", "<i8"),
        ("duration_us", "<u4"),
        ("data", "<u4"),
        ("size", "<u4"),
        ("track", "<u2"),
        ("flags", "<u2"),
    ]
)
"""One frame; `data` is an offset into the module's memory."""
TRACK = np.dtype(
    [
        ("kind", "<u4"),
        ("codec", "S16"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("frame_rate", "<f4"),
        ("sample_rate", "<u4"),
        ("channels", "<u4"),
    ]
)
LAYOUT = np.dtype(
    [
        ("abi", "<u4"),
        ("frames_in", "<u4"),
        ("frames_in_max", "<u4"),
        ("bytes_in", "<u4"),
        ("bytes_in_max", "<u4"),
        ("frames_out", "<u4"),
        ("frames_out_max", "<u4"),
        ("tracks", "<u4"),
        ("tracks_max", "<u4"),
        ("track_count", "<u4"),
    ]
)
KEYFRAME = 1
"""The only flag so far."""


class Level(StrEnum):
    """What an extension is given."""

    ENCODED = "encoded"
    """Frames as they travel."""
    DECODED = "decoded"
    """Pictures as planar YUV 4:2:0 without padding, sound as interleaved 16-bit PCM; the host decodes and encodes."""


class Failure(StrEnum):
    """What becomes of the derived channel while an extension fails."""

    BYPASS = "bypass"
    """Frames of tracks whose format the extension keeps go on unprocessed."""
    STOP = "stop"
    """The channel ends."""


class EventKind(IntEnum):
    """What an extension can be told of; the number is the first argument of `on_event`."""

    TIMER = 1
    """Every 100 ms; the value counts them."""
    SUBSCRIBER_JOINED = 2
    """The value is how many there are now."""
    SUBSCRIBER_LEFT = 3
    LINK_COST_CHANGED = 4
    """One-way delay of the link the input comes over, ms."""
    BOUND_VIOLATED = 5
    """By how much a frame was late here, ms."""
    CPU_PRESSURE = 6
    """Share of the time in which some task waited for a CPU, 0..1."""
    CONGESTION = 7
    """What subscribers may take, as a share of the stream's rate, 0..1."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an author declares, in extension.toml and in the built module.

    Attributes:
        tap: it only looks: the stream passes by as it is, and what it emits is on tracks that it adds.
        tracks: the kinds of tracks it is given; frames of others pass it by.
        events: what it wants to be told of.
        memory_mib: most linear memory.
        deadline_ms: a call may take so long.
        config: names it knows, with their defaults.
    """

    name: Annotated[str, Meta(pattern=f"^{SMALL}$", max_length=64)]
    version: Annotated[str, Meta(pattern=f"^{SMALL}$", max_length=32)] = "0.1.0"
    abi: int = ABI_VERSION
    about: Annotated[str, Meta(max_length=200)] = ""
    level: Level = Level.ENCODED
    failure: Failure = Failure.BYPASS
    tap: bool = False
    tracks: Annotated[tuple[Kind, ...], Meta(min_length=1, max_length=3)] = tuple(Kind)
    events: Annotated[tuple[Annotated[str, Meta(max_length=32)], ...], Meta(max_length=16)] = ()
    memory_mib: Annotated[int, Meta(ge=1, le=256)] = 16
    deadline_ms: Annotated[int, Meta(ge=5, le=1000)] = 20
    config: dict[Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}$")], Annotated[str, Meta(max_length=256)]] = {}

    def event_kinds(self) -> frozenset[EventKind]:
        """The events it is told of."""
        return frozenset(EventKind[name.upper()] for name in self.events)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a module keeps its buffers: offsets into its memory and sizes, checked."""

    at: int
    frames_in: int
    frames_in_max: int
    bytes_in: int
    bytes_in_max: int
    frames_out: int
    frames_out_max: int
    tracks: int
    tracks_max: int


def check_manifest(manifest: Manifest) -> Manifest:
    """The same manifest, in order.

    Raises:
        ExtensionRefused: it is written for another version, or names an event there is not.
    """
    if manifest.abi != ABI_VERSION:
        raise ExtensionRefused(f"{manifest.name}: written for interface {manifest.abi}; this host has {ABI_VERSION}")
    known = {kind.name.lower() for kind in EventKind}
    if unknown := sorted(set(manifest.events) - known):
        raise ExtensionRefused(
            f"{manifest.name}: there is no event {unknown[0]!r}; there are {', '.join(sorted(known))}"
        )
    for key, value in manifest.config.items():
        if not value.isprintable():
            raise ExtensionRefused(f"{manifest.name}: the default of {key} is not one line of text")
    return manifest


def with_manifest(wasm: bytes, manifest: Manifest) -> bytes:
    """A module with its manifest in it; one that it had is replaced.

    Raises:
        ExtensionRefused: it is no module.
    """
    name = SECTION.encode()
    content = bytes([len(name)]) + name + msgspec.json.encode(manifest)
    return (
        MAGIC
        + b"".join(_raw(kind, body) for kind, body in _sections(wasm) if _title(kind, body) != name)
        + _raw(0, content)
    )


def manifest_of(wasm: bytes) -> Manifest:
    """The manifest in a module.

    Raises:
        ExtensionRefused: it is no module, has none, or a bad one.
    """
    for kind, body in _sections(wasm):
        if _title(kind, body) == SECTION.encode():
            return parse_manifest(body[1 + len(SECTION) :])
    raise ExtensionRefused("it has no manifest; build it with cubecast extension build")


def parse_manifest(content: bytes) -> Manifest:
    """A manifest as it stands in a built extension.

    Raises:
        ExtensionRefused: it is not in order.
    """
    if len(content) > MANIFEST_BYTES_MAX:
        raise ExtensionRefused(f"its manifest has {len(content)} bytes; {MANIFEST_BYTES_MAX} are allowed")
    try:
        return check_manifest(msgspec.json.decode(content, type=Manifest))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ExtensionRefused(f"its manifest cannot be read: {error}") from error


def read_layout(memory: memoryview, at: int) -> Layout:
    """What a module says of its buffers.

    Raises:
        ExtensionRefused: a buffer does not lie in its memory, or is too small or too large to be used.
    """
    at &= 0xFFFFFFFF
    if at + LAYOUT.itemsize > len(memory):
        raise ExtensionRefused("its layout lies outside its memory")
    raw = np.frombuffer(memory, LAYOUT, 1, at)[0]
    if raw["abi"] != ABI_VERSION:
        raise ExtensionRefused(f"it says it has interface {raw['abi']}; this host has {ABI_VERSION}")
    layout = Layout(at, *(int(raw[name]) for name in LAYOUT.names[1:-1]))  # type: ignore[index]
    for what, start, count, size, most in (
        ("frames in", layout.frames_in, layout.frames_in_max, FRAME.itemsize, FRAMES_MAX),
        ("bytes in", layout.bytes_in, layout.bytes_in_max, 1, MODULE_BYTES_MAX),
        ("frames out", layout.frames_out, layout.frames_out_max, FRAME.itemsize, FRAMES_MAX),
        ("tracks", layout.tracks, layout.tracks_max, TRACK.itemsize, TRACKS_MAX),
    ):
        if not 0 < count <= most:
            raise ExtensionRefused(f"its table of {what} has room for {count}; 1..{most} are allowed")
        if start + count * size > len(memory):
            raise ExtensionRefused(f"its table of {what} lies outside its memory")
    return layout


def _sections(wasm: bytes) -> list[tuple[int, bytes]]:
    """Sections of a module: kind and content. Source: WebAssembly core specification, 5.5.2."""
    if wasm[:8] != MAGIC:
        raise ExtensionRefused("it is no WebAssembly module")
    found, at = [], len(MAGIC)
    while at < len(wasm):
        kind, at = wasm[at], at + 1
        size, at = _number(wasm, at)
        if at + size > len(wasm):
            raise ExtensionRefused("it is cut short")
        found.append((kind, wasm[at : at + size]))
        at += size
    return found


def _number(wasm: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number, and where it ends."""
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(wasm):
            raise ExtensionRefused("it is cut short")
        byte, at = wasm[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ExtensionRefused("a number in it is too long")


def _raw(kind: int, body: bytes) -> bytes:
    size, rest = b"", len(body)
    while rest >= 0x80:
        size += bytes([rest & 0x7F | 0x80])
        rest >>= 7
    return bytes([kind]) + size + bytes([rest]) + body


def _title(kind: int, body: bytes) -> bytes | None:
    """The name of a custom section; None for others."""
    return body[1 : 1 + body[0]] if kind == 0 and body else None
