"""The binary interface between a host and an extension, version 1. Its C side is toolchain/cubecast.h, its reference docs/abi.md.

A module exports its memory and four functions, imports nothing, and keeps all buffers in its own memory:

- `cubecast_layout() -> i32`: the offset of its `LAYOUT` table; called once.
- `init(bytes) -> i32`: the byte buffer holds `bytes` bytes of configuration, as lines of `key=value`, and the track table
  the tracks of the stream. The extension may change the track table; it then describes the tracks that it emits.
  Returns 0, or an error.
- `process_batch(n) -> i32`: the table of frames in holds n frames in decoding order. Returns the number of frames written
  to the table of frames out, or an error. Their data may lie anywhere in the module's memory, input data included.
- `on_event(kind, time_us, value) -> i32`: returns as process_batch; needed only if the manifest names events.

Errors are negative numbers. The manifest is a custom section of the module, so the file is complete by itself.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from cubecast.errors import ExtensionRefused
from cubecast.frames import Kind
from cubecast.sandbox.binary import CUSTOM, MAGIC, custom_name, encoded_section, sections

ABI_VERSION = 1
"""Version of the interface between extensions and hosts (docs/abi.md); a manifest that names another one is refused."""
SECTION = "cubecast"
"""Name of the custom section that holds the manifest."""
MANIFEST_BYTES_MAX = 64 * 1024
"""Maximum size of a manifest as JSON; it bounds what is parsed before anything is checked."""
INPUT_BYTES_MAX = 16 * 2**20
"""Maximum size of an extension's byte buffer, which holds the input of one call; it bounds the copy before each call."""
FRAMES_MAX = 4096
"""Maximum number of rows in a table of frames; it bounds the time to fill or read one."""
TRACKS_MAX = 16
"""Maximum number of rows in the track table."""
NAME_PATTERN = "[a-z0-9][a-z0-9._-]*"
"""Regular expression for names and versions of extensions."""

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
"""Row of a table of frames; `data` is an offset into the module's memory."""
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
"""Row of the track table; `kind` is 0 for video, 1 for audio, 2 for data."""
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
"""Offsets of the module's tables and their sizes (`*_max`: rows, or bytes for `bytes_in`)."""
KEYFRAME = 1
"""Bit of a frame's `flags`; no other is defined."""


class Level(StrEnum):
    """Form in which an extension receives frames."""

    ENCODED = "encoded"
    """Encoded, as they are transmitted."""
    DECODED = "decoded"
    """Pictures as planar YUV 4:2:0 without padding, sound as interleaved 16-bit PCM; the host decodes and encodes."""


class Failure(StrEnum):
    """What happens to the derived channel while its extension fails."""

    BYPASS = "bypass"
    """Frames of tracks whose format the extension keeps are forwarded unprocessed."""
    STOP = "stop"
    """The channel ends."""


class EventKind(IntEnum):
    """Host events that can be delivered to an extension; the number is the first argument of `on_event`."""

    TIMER = 1
    """Sent every 100 ms; the value is a counter that starts at 1."""
    SUBSCRIBER_JOINED = 2
    """The value is the number of subscribers now."""
    SUBSCRIBER_LEFT = 3
    """The value is the number of subscribers now."""
    LINK_COST_CHANGED = 4
    """The value is the one-way delay of the link on which the input arrives, ms."""
    BOUND_VIOLATED = 5
    """The value is by how much a frame of the input arrived later than the bound, ms."""
    CPU_PRESSURE = 6
    """The value is the share of the time in which some task waited for a CPU, 0..1."""
    CONGESTION = 7
    """The value is the send rate to the slowest subscriber, as a share of the stream's rate, 0..1."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Declarations of an extension's author, in extension.toml and in the built module.

    Attributes:
        tap: it only observes: the stream is forwarded unchanged, and it emits on tracks that it adds.
        tracks: kinds of tracks that it processes; frames of other tracks are forwarded unchanged.
        events: names of the events to deliver to it (EventKind, in lower case).
        memory_mib: maximum linear memory, MiB.
        deadline_ms: maximum duration of a call, ms.
        config: names of its settings, with their defaults.
    """

    name: Annotated[str, Meta(pattern=f"^{NAME_PATTERN}$", max_length=64)]
    version: Annotated[str, Meta(pattern=f"^{NAME_PATTERN}$", max_length=32)] = "0.1.0"
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
        """Events to deliver to it."""
        return frozenset(EventKind[name.upper()] for name in self.events)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a module keeps its buffers: checked offsets into its memory, and sizes; `at` is the offset of the table itself."""

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
    """Returns the same manifest if it is valid.

    Raises:
        ExtensionRefused: it is for another interface version, names an unknown event, or a default is not one line.
    """
    if manifest.abi != ABI_VERSION:
        raise ExtensionRefused(
            f"{manifest.name}: written for interface {manifest.abi}; this host supports {ABI_VERSION}"
        )
    known = {kind.name.lower() for kind in EventKind}
    if unknown := sorted(set(manifest.events) - known):
        raise ExtensionRefused(
            f"{manifest.name}: unknown event {unknown[0]!r}; the events are {', '.join(sorted(known))}"
        )
    for key, value in manifest.config.items():
        if not value.isprintable():
            raise ExtensionRefused(f"{manifest.name}: the default of {key} is not one line of text")
    return manifest


def with_manifest(wasm: bytes, manifest: Manifest) -> bytes:
    """The module with this manifest, in place of any that it had.

    Raises:
        ExtensionRefused: `wasm` is not a WebAssembly module.
    """
    name = SECTION.encode()
    content = bytes([len(name)]) + name + msgspec.json.encode(manifest)
    kept = [each for each in sections(wasm) if custom_name(wasm, each) != name]
    return (
        MAGIC
        + b"".join(encoded_section(each.kind, wasm[each.start : each.end]) for each in kept)
        + encoded_section(CUSTOM, content)
    )


def manifest_of(wasm: bytes) -> Manifest:
    """The manifest of a module.

    Raises:
        ExtensionRefused: `wasm` is not a WebAssembly module, or has no valid manifest.
    """
    for section in sections(wasm):
        if custom_name(wasm, section) == SECTION.encode():
            return parse_manifest(wasm[section.start + 1 + len(SECTION) : section.end])
    raise ExtensionRefused("it has no manifest; build it with cubecast extension build")


def parse_manifest(content: bytes) -> Manifest:
    """Parses the JSON manifest of a built extension.

    Raises:
        ExtensionRefused: it is invalid.
    """
    if len(content) > MANIFEST_BYTES_MAX:
        raise ExtensionRefused(f"its manifest has {len(content)} bytes; at most {MANIFEST_BYTES_MAX} are allowed")
    try:
        return check_manifest(msgspec.json.decode(content, type=Manifest))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ExtensionRefused(f"its manifest cannot be read: {error}") from error


def read_layout(memory: memoryview, at: int) -> Layout:
    """Reads and checks the layout table at offset `at` of a module's memory.

    Raises:
        ExtensionRefused: a buffer lies outside the memory, or is too small or too large.
    """
    at &= 0xFFFFFFFF
    if at + LAYOUT.itemsize > len(memory):
        raise ExtensionRefused("its layout lies outside its memory")
    raw = np.frombuffer(memory, LAYOUT, 1, at)[0]
    if raw["abi"] != ABI_VERSION:
        raise ExtensionRefused(f"its layout is for interface {raw['abi']}; this host supports {ABI_VERSION}")
    layout = Layout(at, *(int(raw[name]) for name in LAYOUT.names[1:-1]))  # type: ignore[index]
    for what, start, count, size, most in (
        ("frames in", layout.frames_in, layout.frames_in_max, FRAME.itemsize, FRAMES_MAX),
        ("bytes in", layout.bytes_in, layout.bytes_in_max, 1, INPUT_BYTES_MAX),
        ("frames out", layout.frames_out, layout.frames_out_max, FRAME.itemsize, FRAMES_MAX),
        ("tracks", layout.tracks, layout.tracks_max, TRACK.itemsize, TRACKS_MAX),
    ):
        if not 0 < count <= most:
            raise ExtensionRefused(f"its table of {what} holds {count}; 1 to {most} are allowed")
        if start + count * size > len(memory):
            raise ExtensionRefused(f"its table of {what} lies outside its memory")
    return layout
