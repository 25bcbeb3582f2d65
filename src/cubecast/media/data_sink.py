"""Writes a data track to a file of its own beside the media, as lines of JSON."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from cubecast.errors import MediaError
from cubecast.frames import EncodedFrame, Kind, TrackFormat


class DataSink:
    """Writes a data track as lines of JSON: `pts_us`, and `text` or, if the payload is not UTF-8, `base64`."""

    def __init__(self, path: Path) -> None:
        """Opens the file.

        Raises:
            MediaError: it cannot be written.
        """
        self._name = str(path)
        try:
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise MediaError(f"cannot write {path}: {error.strerror}") from error

    def write(self, frame: EncodedFrame) -> None:
        """Writes one frame.

        Raises:
            MediaError: it cannot be written.
        """
        try:
            record = {"pts_us": frame.pts_us, "text": frame.payload.decode().rstrip("\n")}
        except UnicodeDecodeError:
            record = {"pts_us": frame.pts_us, "base64": base64.b64encode(frame.payload).decode()}
        try:
            self._file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise MediaError(f"cannot write {self._name}: {error.strerror}") from error

    def close(self) -> None:
        """Closes the file.

        Raises:
            MediaError: it cannot be completed.
        """
        try:
            self._file.close()
        except OSError as error:
            raise MediaError(f"cannot complete {self._name}: {error.strerror}") from error


def data_suffix(number: int, tracks: Sequence[TrackFormat]) -> str:
    """The suffix of the file of a data track: of its own where several have the same codec."""
    codec = tracks[number].codec
    alone = sum(track.kind is Kind.DATA and track.codec == codec for track in tracks) == 1
    return f".{codec}.jsonl" if alone else f".{number}.{codec}.jsonl"
