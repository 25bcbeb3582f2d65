"""Frames and the formats of their tracks: what sources produce and sinks write."""

from dataclasses import dataclass
from enum import StrEnum

US = 1_000_000
"""Microseconds per second; the times of all frames are in microseconds."""


class Kind(StrEnum):
    """The kind of content of a track."""

    VIDEO = "video"
    AUDIO = "audio"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class TrackFormat:
    """The format of one track of a channel.

    Attributes:
        codec: FFmpeg's canonical name: h264, hevc, av1, vp8, vp9, aac, opus, flac, mp3.
        extradata: codec configuration as the container gave it (avcC, AudioSpecificConfig, ...).
        width, height: in pixels; 0 for audio and data.
        frame_rate: frames per second; 0 when unknown.
        sample_rate: in Hz; 0 for video and data.
        channels: audio channels; 0 for video and data.
    """

    kind: Kind
    codec: str
    extradata: bytes = b""
    width: int = 0
    height: int = 0
    frame_rate: float = 0.0
    sample_rate: int = 0
    channels: int = 0

    def __str__(self) -> str:
        if self.kind is Kind.DATA:
            return self.codec
        if self.kind is Kind.VIDEO:
            rate = f" {self.frame_rate:.3g} fps" if self.frame_rate else ""
            return f"{self.codec} {self.width}x{self.height}{rate}"
        return f"{self.codec} {self.sample_rate} Hz {self.channels} ch"


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One frame of a track.

    Attributes:
        track: the index of its track in the channel.
        pts_us: presentation time, microseconds from the start of the channel.
        dts_us: decoding time, the same; never decreases within a track.
        duration_us: 0 when unknown.
        keyframe: whether it can be decoded without earlier frames.
    """

    track: int
    pts_us: int
    dts_us: int
    duration_us: int
    keyframe: bool
    payload: bytes
