"""Checks a built extension as a host would, and against its author's golden files."""

from dataclasses import dataclass
from pathlib import Path

from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.frames import Kind, TrackFormat
from cubecast.sandbox.abi import Level, Manifest
from cubecast.sandbox.loading import load
from cubecast.sandbox.toolchain.golden import SUFFIX, replay
from cubecast.sandbox.wasm.engine import deadlines

USUAL = {
    Level.ENCODED: (
        TrackFormat(Kind.VIDEO, "h264", b"", 640, 360, 25.0),
        TrackFormat(Kind.AUDIO, "aac", b"", sample_rate=48_000, channels=2),
    ),
    Level.DECODED: (
        TrackFormat(Kind.VIDEO, "rawvideo", b"", 640, 360, 25.0),
        TrackFormat(Kind.AUDIO, "pcm_s16le", b"", sample_rate=48_000, channels=2),
    ),
}
"""What most streams are."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found of a sound extension."""

    manifest: Manifest
    memory_bytes: int
    golden: int


def check(file: Path, trusted: Path | None = None, *, confined: bool = True) -> Checked:
    """Loads an extension, begins it with a usual stream, tells it of every event it asks for, and replays golden files.

    Golden files lie beside it in the folder `golden`.

    Raises:
        ExtensionRefused: what is wrong.
    """
    extension = load(str(file), trusted=trusted, confined=confined)
    manifest = extension.manifest
    recordings = sorted((file.parent / "golden").glob(f"*{SUFFIX}"))
    with deadlines():
        try:
            instance = extension.make(USUAL[manifest.level], {})
            for kind in sorted(manifest.event_kinds()):
                instance.on_event(kind, 0, 1.0)
            memory_bytes = instance.memory_bytes()
            instance.close()
            for recording in recordings:
                replay(extension, recording)
        except (ExtensionFailed, ExtensionRefused) as error:
            raise ExtensionRefused(f"{file}: {error}") from error
    return Checked(manifest, memory_bytes, len(recordings))
