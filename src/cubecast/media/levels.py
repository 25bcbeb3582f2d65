"""Converts between encoded and raw frames: planar YUV 4:2:0 pictures without padding, interleaved 16-bit PCM.

Extensions of level `decoded` receive raw frames and return raw frames, which are encoded again.
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
from cubecast.media.encoding import FRAME_RATE_DEFAULT, MICROSECOND, AudioEncoder, VideoEncoder

RAW_VIDEO, RAW_AUDIO = "rawvideo", "pcm_s16le"
"""FFmpeg's names for the codecs of raw tracks."""
CHANNELS_MAX = 2
"""Maximum number of channels of raw audio; tracks with more are mixed down to stereo."""
FLAC_MARKER_BYTES = 8
"""Length of the marker and block header before STREAMINFO in the extradata of FLAC tracks; FFmpeg omits both."""


class TrackDecoder:
    """Decodes one track to raw frames."""

    def __init__(self, track: TrackFormat) -> None:
        """Opens the decoder.

        Raises:
            MediaError: there is no decoder for the codec, or it cannot be opened.
        """
        self.damaged = 0
        """Number of frames that could not be decoded."""
        try:
            self._decoder = av.CodecContext.create(track.codec, "r")
            if track.extradata:
                skipped = FLAC_MARKER_BYTES if track.codec == "flac" else 0
                self._decoder.extradata = track.extradata[skipped:]
            if isinstance(self._decoder, VideoCodecContext):
                self._decoder.thread_count = 1  # frame threading adds one frame of delay per thread
            self._decoder.open()
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError(f"cannot decode {track.codec}: {error}") from error
        if isinstance(self._decoder, VideoCodecContext):
            self.format = TrackFormat(Kind.VIDEO, RAW_VIDEO, b"", track.width & ~1, track.height & ~1, track.frame_rate)
        elif isinstance(self._decoder, AudioCodecContext):
            channels = min(CHANNELS_MAX, track.channels or CHANNELS_MAX)
            self.format = TrackFormat(Kind.AUDIO, RAW_AUDIO, sample_rate=track.sample_rate, channels=channels)
            layout = "mono" if channels == 1 else "stereo"
            self._resampler = AudioResampler(format="s16", layout=layout, rate=track.sample_rate)
        else:
            raise MediaError(f"{track.codec} is neither video nor audio")

    def decode(self, frame: EncodedFrame | None) -> Iterator[EncodedFrame]:
        """The raw frames that the decoder outputs for an encoded frame; pass None at the end of the track."""
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
        for raw in decoded:
            yield from self._raw_frames(raw, frame.track if frame is not None else 0)

    def _raw_frames(self, raw: Frame, track: int) -> Iterator[EncodedFrame]:
        if raw.pts is None:
            return
        pts_us = round(raw.pts * (raw.time_base or MICROSECOND) * US)
        if isinstance(raw, VideoFrame):
            picture = raw.reformat(self.format.width, self.format.height, format="yuv420p")
            duration_us = round(US / self.format.frame_rate) if self.format.frame_rate else 0
            yield EncodedFrame(
                track, pts_us, pts_us, duration_us, keyframe=True, payload=picture.to_ndarray().tobytes()
            )
        elif isinstance(raw, AudioFrame):
            for piece in self._resampler.resample(raw):
                duration_us = round(piece.samples * US / self.format.sample_rate)
                yield EncodedFrame(
                    track, pts_us, pts_us, duration_us, keyframe=True, payload=piece.to_ndarray().tobytes()
                )
                pts_us += duration_us


class TrackEncoder:
    """Encodes one track of raw frames to H.264 or AAC."""

    def __init__(self, raw: TrackFormat) -> None:
        """Opens the encoder.

        Raises:
            MediaError: the encoder cannot be opened.
        """
        self._raw_format = raw
        self._encoder: VideoEncoder | AudioEncoder
        if raw.kind is Kind.VIDEO:
            rate = Fraction(raw.frame_rate).limit_denominator(1001) if raw.frame_rate else FRAME_RATE_DEFAULT
            self._encoder = VideoEncoder(raw.width, raw.height, rate)
        else:
            self._encoder = AudioEncoder(raw.channels)
        self.format = self._encoder.format

    def encode(self, frame: EncodedFrame | None, track: int) -> Iterator[EncodedFrame]:
        """The encoded frames that the encoder outputs for a raw frame; pass None at the end of the track.

        Raises:
            MediaError: the frame does not have the size that the track's format requires.
        """
        encoded = self._encoder.flush() if frame is None else self._encoder.encode(self._av_frame(frame), MICROSECOND)
        for each in encoded:
            yield EncodedFrame(track, each.pts_us, each.dts_us, each.duration_us, each.keyframe, each.payload)

    def _av_frame(self, frame: EncodedFrame) -> VideoFrame | AudioFrame:
        raw = self._raw_format
        made: VideoFrame | AudioFrame
        if raw.kind is Kind.VIDEO:
            size = raw.width * raw.height * 3 // 2
            if len(frame.payload) != size:
                raise MediaError(f"a picture of {raw.width} x {raw.height} has {size} bytes, not {len(frame.payload)}")
            rows = np.frombuffer(frame.payload, np.uint8).reshape(raw.height * 3 // 2, raw.width)
            made = VideoFrame.from_ndarray(rows, format="yuv420p")
        else:
            count = len(frame.payload) // (2 * raw.channels) * raw.channels
            samples = np.frombuffer(frame.payload, np.int16, count).reshape(1, -1)
            made = AudioFrame.from_ndarray(samples, format="s16", layout="mono" if raw.channels == 1 else "stereo")
            made.sample_rate = raw.sample_rate
        made.pts, made.time_base = frame.pts_us, MICROSECOND
        return made
