"""Encoded frames and the formats of their tracks, as sources make them and sinks take them."""

from dataclasses import dataclass
from enum import StrEnum

US = 1_000_000
"""Microseconds a second: the time base of every frame."""


class Kind(StrEnum):
    """What a track carries."""

    VIDEO = "video"
    AUDIO = "audio"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class TrackFormat:
    """One track of a channel.

    Attributes:
        codec: FFmpeg's canonical name: h264, hevc, av1, vp8, vp9, aac, opus, flac, mp3.
        extradata: codec configuration as the container gave it (avcC, AudioSpecificConfig, ...).
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
    """One encoded frame; times in microseconds from the start of the channel, dts never decreasing within a track."""

    track: int
    pts_us: int
    dts_us: int
    duration_us: int
    keyframe: bool
    payload: bytes
