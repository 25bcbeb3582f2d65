"""Checks a built extension: loads it as a host does, and replays its golden files."""

from dataclasses import dataclass
from pathlib import Path

from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.frames import Kind, TrackFormat
from cubecast.sandbox.abi import Level, Manifest
from cubecast.sandbox.loading import load
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


@dataclass(frozen=True, slots=True)
class Checked:
    """Result of a check that found no fault.

    Attributes:
        memory_bytes: memory after initialisation and one event of each kind.
        golden: number of golden files replayed.
    """

    manifest: Manifest
    memory_bytes: int
    golden: int


def check(file: Path, trusted: Path | None = None, *, confined: bool = True) -> Checked:
    """Loads an extension, initialises it with typical tracks, delivers each event it names, and replays its golden files.

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
            instance = extension.make(TYPICAL_TRACKS[manifest.level], {})
            for kind in sorted(manifest.event_kinds()):
                instance.on_event(kind, 0, 1.0)
            memory_bytes = instance.memory_bytes()
            instance.close()
            for recording in recordings:
                replay(extension, recording)
        except (ExtensionFailed, ExtensionRefused) as error:
            raise ExtensionRefused(f"{file}: {error}") from error
    return Checked(manifest, memory_bytes, len(recordings))
