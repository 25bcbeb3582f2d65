"""Between encoded frames and plain ones: planar YUV 4:2:0 pictures without padding, interleaved 16-bit PCM.

What extensions of level `decoded` are given, and what becomes of what they give.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.frame import Frame
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from cubecast.errors import MediaError
from cubecast.frames import US, EncodedFrame, Kind, TrackFormat
from cubecast.media.encoding import FRAME_RATE_DEFAULT, MICROSECOND, PictureEncoder, SoundEncoder

PICTURE, SOUND = "rawvideo", "pcm_s16le"
"""Codecs of plain tracks."""
CHANNELS_MAX = 2
FLAC_MARKER_BYTES = 8


class TrackDecoder:
    """Plain frames of one encoded track."""

    def __init__(self, track: TrackFormat) -> None:
        """Starts the decoder.

        Raises:
            MediaError: there is none for the codec, or it does not start.
        """
        self.damaged = 0
        """Frames that could not be decoded."""
        try:
            self._decoder = av.CodecContext.create(track.codec, "r")
            if track.extradata:
                whole = track.extradata
                self._decoder.extradata = whole[FLAC_MARKER_BYTES:] if track.codec == "flac" else whole
            if isinstance(self._decoder, VideoCodecContext):
                self._decoder.thread_count = 1  # a thread for each frame would be a frame of delay each
            self._decoder.open()
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError(f"cannot decode {track.codec}: {error}") from error
        if isinstance(self._decoder, VideoCodecContext):
            self.format = TrackFormat(Kind.VIDEO, PICTURE, b"", track.width & ~1, track.height & ~1, track.frame_rate)
        elif isinstance(self._decoder, AudioCodecContext):
            channels = min(CHANNELS_MAX, track.channels or CHANNELS_MAX)
            self.format = TrackFormat(Kind.AUDIO, SOUND, sample_rate=track.sample_rate, channels=channels)
            layout = "mono" if channels == 1 else "stereo"
            self._resampler = AudioResampler(format="s16", layout=layout, rate=track.sample_rate)
        else:
            raise MediaError(f"{track.codec} is neither video nor audio")

    def decode(self, frame: EncodedFrame | None) -> Iterator[EncodedFrame]:
        """The plain frames one encoded frame completes; None at the end."""
        packet = None
        if frame is not None:
            packet = av.Packet(frame.payload)
            packet.pts, packet.dts, packet.time_base = frame.pts_us, frame.dts_us, MICROSECOND
            packet.duration = frame.duration_us
        try:
            decoded = self._decoder.decode(packet)  # type: ignore[attr-defined]
        except (av.error.InvalidDataError, av.error.EOFError):
            self.damaged += 1
            return
        for plain in decoded:
            yield from self._plain(plain, frame.track if frame is not None else 0)

    def _plain(self, plain: Frame, track: int) -> Iterator[EncodedFrame]:
        if plain.pts is None:
            return
        pts_us = round(plain.pts * (plain.time_base or MICROSECOND) * US)
        if isinstance(plain, VideoFrame):
            picture = plain.reformat(self.format.width, self.format.height, format="yuv420p")
            duration_us = round(US / self.format.frame_rate) if self.format.frame_rate else 0
            yield EncodedFrame(
                track, pts_us, pts_us, duration_us, keyframe=True, payload=picture.to_ndarray().tobytes()
            )
        elif isinstance(plain, AudioFrame):
            for piece in self._resampler.resample(plain):
                duration_us = round(piece.samples * US / self.format.sample_rate)
                yield EncodedFrame(
                    track, pts_us, pts_us, duration_us, keyframe=True, payload=piece.to_ndarray().tobytes()
                )
                pts_us += duration_us


class TrackEncoder:
    """Frames MoQ carries, of one plain track."""

    def __init__(self, plain: TrackFormat) -> None:
        """Starts the encoder.

        Raises:
            MediaError: it does not start.
        """
        self._plain = plain
        self._encoder: PictureEncoder | SoundEncoder
        if plain.kind is Kind.VIDEO:
            rate = Fraction(plain.frame_rate).limit_denominator(1001) if plain.frame_rate else FRAME_RATE_DEFAULT
            self._encoder = PictureEncoder(plain.width, plain.height, rate)
        else:
            self._encoder = SoundEncoder(plain.channels)
        self.format = self._encoder.format

    def encode(self, frame: EncodedFrame | None, track: int) -> Iterator[EncodedFrame]:
        """The encoded frames a plain one completes; None at the end.

        Raises:
            MediaError: its size does not fit the track.
        """
        for each in (
            self._encoder.flush() if frame is None else self._encoder.encode(self._av_frame(frame), MICROSECOND)
        ):
            yield EncodedFrame(track, each.pts_us, each.dts_us, each.duration_us, each.keyframe, each.payload)

    def _av_frame(self, frame: EncodedFrame) -> VideoFrame | AudioFrame:
        plain = self._plain
        made: VideoFrame | AudioFrame
        if plain.kind is Kind.VIDEO:
            wanted = plain.width * plain.height * 3 // 2
            if len(frame.payload) != wanted:
                raise MediaError(
                    f"a picture of {plain.width} x {plain.height} has {wanted} bytes, not {len(frame.payload)}"
                )
            rows = np.frombuffer(frame.payload, np.uint8).reshape(plain.height * 3 // 2, plain.width)
            made = VideoFrame.from_ndarray(rows, format="yuv420p")
        else:
            whole = len(frame.payload) // (2 * plain.channels) * plain.channels
            samples = np.frombuffer(frame.payload, np.int16, whole).reshape(1, -1)
            made = AudioFrame.from_ndarray(samples, format="s16", layout="mono" if plain.channels == 1 else "stereo")
            made.sample_rate = plain.sample_rate
        made.pts, made.time_base = frame.pts_us, MICROSECOND
        return made
