"""Encodes pictures and sound to what MoQ media tracks carry: H.264 without frame reordering, and AAC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.codec.context import Flags
from av.frame import Frame
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from cubecast.errors import MediaError
from cubecast.frames import US, Kind, TrackFormat

AUDIO_RATE = 48_000
"""Sample rate of encoded audio, Hz."""
AUDIO_BITRATE_BPS = 128_000
"""Bit rate of encoded audio."""
GOP_S = 2
"""Interval between keyframes, s."""
GAP_S = 0.2
"""A jump of the audio timestamps by more than this is kept as a gap, s; a smaller one is taken for rounding."""
FRAME_RATE_DEFAULT = Fraction(25)
"""Frame rate for sources that do not state one, frames per second."""
MICROSECOND = Fraction(1, US)
"""The time base of `EncodedFrame`, in s."""


@dataclass(frozen=True, slots=True)
class Converted:
    """An encoded frame without a track number; its times are those of the source, in microseconds."""

    pts_us: int
    dts_us: int
    duration_us: int
    keyframe: bool
    payload: bytes


class VideoEncoder:
    """Encodes pictures to H.264; odd widths and heights are reduced by one pixel."""

    def __init__(self, width: int, height: int, frame_rate: Fraction) -> None:
        """Opens the encoder.

        Raises:
            MediaError: the encoder cannot be opened.
        """
        encoder = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt = max(2, width & ~1), max(2, height & ~1), "yuv420p"
        encoder.time_base, encoder.framerate = MICROSECOND, frame_rate
        encoder.gop_size, encoder.max_b_frames = max(1, round(frame_rate * GOP_S)), 0
        encoder.flags |= Flags.global_header
        encoder.options = {"preset": "veryfast", "tune": "zerolatency", "crf": "23"}
        _open(encoder)
        self._encoder: VideoCodecContext = encoder
        self._last_us = -1 << 62
        extradata = bytes(encoder.extradata or b"")
        self.format = TrackFormat(Kind.VIDEO, "h264", extradata, encoder.width, encoder.height, float(frame_rate))

    def encode(self, frame: Frame, time_base: Fraction) -> Iterator[Converted]:
        """The frames that the encoder outputs for a picture; a picture not later than the one before is dropped."""
        if not isinstance(frame, VideoFrame) or frame.pts is None:
            return
        pts_us = round(frame.pts * time_base * US)
        if pts_us <= self._last_us:
            return
        self._last_us = pts_us
        picture = frame.reformat(self._encoder.width, self._encoder.height, format="yuv420p")
        picture.pts, picture.time_base, picture.pict_type = pts_us, MICROSECOND, 0
        yield from _converted(self._encoder.encode(picture), MICROSECOND)

    def flush(self) -> Iterator[Converted]:
        """The remaining frames, at the end of the track."""
        yield from _converted(self._encoder.encode(None), MICROSECOND)


class AudioEncoder:
    """Encodes audio to AAC at 48 kHz, mono or stereo."""

    def __init__(self, channels: int) -> None:
        """Opens the encoder.

        Raises:
            MediaError: the encoder cannot be opened.
        """
        encoder = av.CodecContext.create("aac", "w")
        encoder.sample_rate, encoder.format, encoder.time_base = AUDIO_RATE, "fltp", Fraction(1, AUDIO_RATE)
        encoder.layout = "mono" if channels == 1 else "stereo"
        encoder.bit_rate = AUDIO_BITRATE_BPS
        encoder.flags |= Flags.global_header
        _open(encoder)
        self._encoder: AudioCodecContext = encoder
        self._resampler = AudioResampler(
            format=encoder.format.name, layout=encoder.layout.name, rate=AUDIO_RATE, frame_size=encoder.frame_size
        )
        self._samples, self._started = 0, False
        self.format = TrackFormat(
            Kind.AUDIO, "aac", bytes(encoder.extradata or b""), sample_rate=AUDIO_RATE, channels=encoder.channels
        )

    def encode(self, frame: Frame, time_base: Fraction) -> Iterator[Converted]:
        """The frames that the encoder outputs for some samples."""
        if not isinstance(frame, AudioFrame):
            return
        if frame.pts is not None:
            self._follow_source_time(frame.pts * time_base)
        yield from self._encode(self._resampler.resample(frame))

    def flush(self) -> Iterator[Converted]:
        """The remaining frames, at the end of the track."""
        yield from self._encode(self._resampler.resample(None))
        yield from _converted(self._encoder.encode(None), self._encoder.time_base)

    def _encode(self, pieces: Sequence[AudioFrame]) -> Iterator[Converted]:
        for piece in pieces:
            piece.pts, piece.time_base = self._samples, Fraction(1, AUDIO_RATE)
            self._samples += piece.samples
            yield from _converted(self._encoder.encode(piece), self._encoder.time_base)

    def _follow_source_time(self, at_s: Fraction) -> None:
        """Sets the next timestamp to the source's at the start and after a gap; otherwise timestamps count samples."""
        at = round(at_s * AUDIO_RATE)
        if not self._started or at - self._samples > AUDIO_RATE * GAP_S:
            self._samples, self._started = at, True


def _converted(packets: Sequence[Packet[Stream]], time_base: Fraction | None) -> Iterator[Converted]:
    for packet in packets:
        base = packet.time_base or time_base or MICROSECOND
        if packet.pts is None or not packet.size:
            continue
        pts_us = round(packet.pts * base * US)
        dts_us = pts_us if packet.dts is None else round(packet.dts * base * US)
        yield Converted(pts_us, dts_us, round((packet.duration or 0) * base * US), packet.is_keyframe, bytes(packet))


def _open(encoder: VideoCodecContext | AudioCodecContext) -> None:
    try:
        encoder.open()
    except av.error.FFmpegError as error:
        raise MediaError(f"cannot start the {encoder.name} encoder: {error.strerror}") from error
