"""Checks a built extension: loads it as a host does, has it process synthetic frames, and replays its golden files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.frames import US, EncodedFrame, Kind, TrackFormat
from cubecast.sandbox.abi import Level, Manifest
from cubecast.sandbox.loading import Extension, load
from cubecast.sandbox.supervision import Instance
from cubecast.sandbox.toolchain.golden import SUFFIX, replay
from cubecast.sandbox.wasm.engine import deadlines

TYPICAL_TRACKS = {
    Level.ENCODED: (
        TrackFormat(Kind.VIDEO, "h264", b"", 640, 360, 25.0),
        TrackFormat(Kind.AUDIO, "aac", b"", sample_rate=48_000, channels=2),
    ),
    Level.DECODED: (
        TrackFormat(Kind.VIDEO, "rawvideo", b"", 640, 360, 25.0),
        TrackFormat(Kind.AUDIO, "pcm_s16le", b"", sample_rate=48_000, channels=2),
    ),
}
"""Tracks that an extension must accept in a check: those of most streams, by level."""
DATA_TRACK = TrackFormat(Kind.DATA, "json")
"""Track that a check adds for an extension that processes data only."""
SYNTHETIC_FRAMES = 16
"""Number of frames of each track in a check: half of them one at a time, as of a live stream, and the rest in one call, as of a
file."""
FRAME_US = 40_000
"""Duration of a synthetic frame, microseconds."""
EXPANSION_MAX, EXPANSION_BYTES = 8, 1 << 20
"""A call may emit EXPANSION_MAX times the bytes that it receives, and EXPANSION_BYTES in addition; whatever emits more in a check
would not fit on the links that carry its source."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Result of a check that found no fault.

    Attributes:
        memory_bytes: memory after initialisation, one event of each kind and the synthetic frames.
        golden: number of golden files replayed.
    """

    manifest: Manifest
    memory_bytes: int
    golden: int


def check(file: Path, trusted: Path | None = None, *, confined: bool = True) -> Checked:
    """Loads an extension, initialises it with typical tracks, delivers each event it names, and has it process frames.

    These are synthetic frames of the tracks that it processes, and those of its golden files, whose results are compared.

    Golden files are those in the folder `golden` beside the file.

    Args:
        trusted, confined: as in `load`.

    Raises:
        ExtensionRefused: the extension is invalid, failed, or emitted something else than its golden files say.
    """
    extension = load(str(file), trusted=trusted, confined=confined)
    manifest = extension.manifest
    recordings = sorted((file.parent / "golden").glob(f"*{SUFFIX}"))
    with deadlines():
        try:
            memory_bytes = _trial(extension)
            for recording in recordings:
                replay(extension, recording)
        except (ExtensionFailed, ExtensionRefused) as error:
            raise ExtensionRefused(f"{file}: {error}") from error
    return Checked(manifest, memory_bytes, len(recordings))


def _trial(extension: Extension) -> int:
    """Delivers events and synthetic frames to a new instance; returns its memory afterwards, bytes."""
    manifest = extension.manifest
    tracks = TYPICAL_TRACKS[manifest.level] + ((DATA_TRACK,) if manifest.tracks == (Kind.DATA,) else ())
    instance = extension.make(tracks, {})
    try:
        for kind in sorted(manifest.event_kinds()):
            instance.on_event(kind, 0, 1.0)
        frames = [
            _frame(tracks, track, number, manifest.level)
            for number in range(SYNTHETIC_FRAMES)
            for track in range(len(tracks))
            if tracks[track].kind in manifest.tracks
        ]
        half = len(frames) // 2
        for frame in frames[:half]:
            _process(instance, [frame])
        _process(instance, frames[half:])
        return instance.memory_bytes()
    finally:
        instance.close()


def _process(instance: Instance, frames: Sequence[EncodedFrame]) -> None:
    received = sum(len(frame.payload) for frame in frames)
    emitted = sum(len(frame.payload) for frame in instance.process(frames).frames)
    if emitted > EXPANSION_MAX * received + EXPANSION_BYTES:
        raise ExtensionRefused(
            f"it emits {emitted} bytes in a call that receives {received}; that would flood its channel"
        )


def _frame(tracks: Sequence[TrackFormat], track: int, number: int, level: Level) -> EncodedFrame:
    """A frame of a track: a grey picture, silence, a line of JSON; encoded ones have the outer form of their codec only."""
    form, keyframe = tracks[track], number % 8 == 0 or tracks[track].kind is not Kind.VIDEO
    time_us = number * FRAME_US
    match form.kind:
        case Kind.DATA:
            payload = b'{"number": 1}'
        case Kind.VIDEO if level is Level.DECODED:
            payload = bytes([128]) * (form.width * form.height * 3 // 2)
        case Kind.AUDIO if level is Level.DECODED:
            payload = bytes(form.sample_rate * FRAME_US // US * form.channels * 2)
        case Kind.VIDEO:  # one unit in avcC form: a slice of an IDR picture, or of another (ITU-T H.264 7.3.1)
            unit = bytes([0x65 if keyframe else 0x41]) + bytes([0x88, 0x84]) * 400
            payload = len(unit).to_bytes(4, "big") + unit
        case Kind.AUDIO:
            payload = bytes([0x21, 0x10]) * 100
    return EncodedFrame(track, time_us, time_us, FRAME_US, keyframe, payload)
