"""From demuxed packets to frames MoQ media tracks carry: untouched where the codec allows, transcoded where not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.codec.context import Flags
from av.frame import Frame
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from cubecast.errors import MediaError
from cubecast.media.frames import US, Kind, TrackFormat

CARRIED = {"h264", "hevc", "av1", "vp8", "vp9", "aac", "opus", "flac", "mp3"}
"""Codecs that MoQ media tracks carry."""
AUDIO_RATE = 48_000
AUDIO_BITRATE_BPS = 128_000
GOP_S = 2
GAP_S = 0.2
"""Silence in a source longer than this stays silence; shorter steps of its clock are rounding."""
FRAME_RATE_DEFAULT = Fraction(25)

_MICROSECOND = Fraction(1, US)
_FLAC_STREAMINFO_BYTES = 34


@dataclass(frozen=True, slots=True)
class Converted:
    """A frame before it is given a track number; times in microseconds of the source."""

    pts_us: int
    dts_us: int
    duration_us: int
    keyframe: bool
    payload: bytes


def passes_through(stream: Stream) -> bool:
    """Whether a stream's packets can be carried as they are."""
    codec = _canonical(stream)
    extradata = bytes(stream.codec_context.extradata or b"")
    if codec in ("h264", "hevc", "flac", "opus") and not extradata:
        return False  # parameter sets only in band: a late subscriber could not start
    return codec in CARRIED


def _canonical(stream: Stream) -> str:
    return str(stream.codec_context.codec.canonical_name)


def _format(stream: Stream, codec: str, extradata: bytes) -> TrackFormat:
    if isinstance(stream, VideoStream):
        rate = float(stream.average_rate or 0)
        return TrackFormat(Kind.VIDEO, codec, extradata, stream.width, stream.height, rate)
    if isinstance(stream, AudioStream):
        channels = stream.codec_context.channels
        return TrackFormat(Kind.AUDIO, codec, extradata, sample_rate=stream.sample_rate, channels=channels)
    raise MediaError(f"a {stream.type} stream is neither video nor audio")


class PassThrough:
    """Packets as they are; ADTS framing is taken off AAC, since MoQ carries raw AAC."""

    note = ""

    def __init__(self, stream: Stream) -> None:
        codec = _canonical(stream)
        extradata = bytes(stream.codec_context.extradata or b"")
        if codec == "flac" and len(extradata) == _FLAC_STREAMINFO_BYTES:
            extradata = b"fLaC\x80\x00\x00\x22" + extradata
        self.format = _format(stream, codec, extradata)
        self._needs_first = codec in ("mp3", "aac") and not extradata
        self.ready = not self._needs_first
        self.restart(stream)

    def restart(self, stream: Stream) -> None:
        """Goes on with the same track of a source that was opened again."""
        self._time_base = stream.time_base or _MICROSECOND
        adts = _canonical(stream) == "aac" and not stream.codec_context.extradata
        self._unframe = BitStreamFilterContext("aac_adtstoasc", stream) if adts else None
        self._next_dts_us: int | None = None

    def convert(self, packet: Packet[Stream] | None) -> Iterator[Converted]:
        """The frames of one packet; None at the end of the source."""
        if packet is None:
            return
        pts, dts, duration, keyframe = packet.pts, packet.dts, packet.duration, packet.is_keyframe
        payload = bytes(packet) if self._unframe is None else self._raw_aac(packet)
        if not payload:
            return
        if self._needs_first and not self.ready:
            self._learn(payload)
        pts = dts if pts is None else pts
        if pts is None:
            return  # nothing says when to show it
        pts_us = self._us(pts)
        dts_us = min(pts_us, self._next_dts_us or pts_us) if dts is None else self._us(dts)
        duration_us = self._us(duration or 0)
        self._next_dts_us = dts_us + max(1, duration_us)
        yield Converted(pts_us, dts_us, duration_us, keyframe, payload)

    def _us(self, value: int) -> int:
        return round(value * self._time_base * US)

    def _raw_aac(self, packet: Packet[Stream]) -> bytes:
        payload = b""
        for filtered in self._unframe.filter(packet) if self._unframe is not None else ():
            for side in filtered.iter_sidedata():
                if str(side.data_type).lower().endswith("new_extradata") and not self.format.extradata:
                    self._learn_extradata(bytes(side))
            payload += bytes(filtered)
        return payload

    def _learn(self, first_payload: bytes) -> None:
        if self.format.codec == "mp3":
            self._learn_extradata(first_payload[:4])
        else:
            self.ready = bool(self.format.extradata)

    def _learn_extradata(self, extradata: bytes) -> None:
        f = self.format
        self.format = TrackFormat(f.kind, f.codec, extradata, sample_rate=f.sample_rate, channels=f.channels)
        self.ready = True


class Transcoder:
    """Decodes, then encodes to H.264 (low latency) or AAC."""

    ready = True

    def __init__(self, stream: Stream) -> None:
        was = _canonical(stream)
        self._video = isinstance(stream, VideoStream)
        self._encoder = _video_encoder(stream) if isinstance(stream, VideoStream) else _audio_encoder(stream)
        codec = "h264" if self._video else "aac"
        plain = _format(stream, codec, bytes(self._encoder.extradata or b""))
        if isinstance(self._encoder, AudioCodecContext):
            plain = TrackFormat(
                Kind.AUDIO, codec, plain.extradata, sample_rate=AUDIO_RATE, channels=self._encoder.channels
            )
        else:
            plain = TrackFormat(
                Kind.VIDEO, codec, plain.extradata, self._encoder.width, self._encoder.height, plain.frame_rate
            )
        self.format = plain
        self.note = f"{was} cannot be carried by MoQ media tracks as it is; transcoding to {self.format}"
        self._begin(stream)

    def restart(self, stream: Stream) -> None:
        """Goes on with the same track of a source that was opened again."""
        self._encoder = _video_encoder(stream) if isinstance(stream, VideoStream) else _audio_encoder(stream)
        self._begin(stream)

    def _begin(self, stream: Stream) -> None:
        self._last_us = -1 << 62
        self._samples, self._started = 0, False
        self._decoder = stream.codec_context
        self._decoder_base = stream.time_base or _MICROSECOND
        self._resampler = None if isinstance(self._encoder, VideoCodecContext) else _resampler(self._encoder)

    def convert(self, packet: Packet[Stream] | None) -> Iterator[Converted]:
        """The frames one packet completes; None flushes decoder and encoder."""
        try:
            decoded = self._decoder.decode(packet)  # type: ignore[attr-defined]
        except av.error.InvalidDataError:
            return  # one damaged packet; the decoder goes on with the next
        for frame in decoded:
            yield from self._encode(frame)
        if packet is None:
            yield from self._encode(None)

    def _encode(self, frame: Frame | None) -> Iterator[Converted]:
        if isinstance(self._encoder, VideoCodecContext):
            yield from self._emit(self._encode_picture(self._encoder, frame))
            return
        assert self._resampler is not None
        if isinstance(frame, AudioFrame) and frame.pts is not None:
            self._follow_clock(frame.pts * (frame.time_base or self._decoder_base))
        for piece in self._resampler.resample(frame if isinstance(frame, AudioFrame) else None):
            piece.pts, piece.time_base = self._samples, Fraction(1, AUDIO_RATE)
            self._samples += piece.samples
            yield from self._emit(self._encoder.encode(piece))
        if frame is None:
            yield from self._emit(self._encoder.encode(None))

    def _follow_clock(self, at_s: Fraction) -> None:
        """Counts samples, so that pieces follow without a gap; starts anew where the source leaves one."""
        at = round(at_s * AUDIO_RATE)
        if not self._started or at - self._samples > AUDIO_RATE * GAP_S:
            self._samples, self._started = at, True

    def _encode_picture(self, encoder: VideoCodecContext, frame: Frame | None) -> list[Packet[Stream]]:
        if frame is None:
            return encoder.encode(None)
        if not isinstance(frame, VideoFrame) or frame.pts is None:
            return []
        pts_us = round(frame.pts * (frame.time_base or self._decoder_base) * US)
        if pts_us <= self._last_us:
            return []
        self._last_us = pts_us
        picture = frame.reformat(encoder.width, encoder.height, format="yuv420p")
        picture.pts, picture.time_base, picture.pict_type = pts_us, _MICROSECOND, 0
        return encoder.encode(picture)

    def _emit(self, packets: list[Packet[Stream]]) -> Iterator[Converted]:
        for packet in packets:
            base = packet.time_base or self._encoder.time_base or _MICROSECOND
            if packet.pts is None or not packet.size:
                continue
            pts_us = round(packet.pts * base * US)
            dts_us = pts_us if packet.dts is None else round(packet.dts * base * US)
            yield Converted(
                pts_us, dts_us, round((packet.duration or 0) * base * US), packet.is_keyframe, bytes(packet)
            )


def _video_encoder(stream: VideoStream) -> VideoCodecContext:
    encoder = av.CodecContext.create("libx264", "w")
    rate = stream.average_rate or FRAME_RATE_DEFAULT
    encoder.width, encoder.height, encoder.pix_fmt = max(2, stream.width & ~1), max(2, stream.height & ~1), "yuv420p"
    encoder.time_base, encoder.framerate = _MICROSECOND, Fraction(rate)
    encoder.gop_size, encoder.max_b_frames = max(1, round(rate * GOP_S)), 0
    encoder.flags |= Flags.global_header
    encoder.options = {"preset": "veryfast", "tune": "zerolatency", "crf": "23"}
    _open(encoder)
    return encoder


def _audio_encoder(stream: Stream) -> AudioCodecContext:
    assert isinstance(stream, AudioStream)
    encoder = av.CodecContext.create("aac", "w")
    encoder.sample_rate, encoder.format, encoder.time_base = AUDIO_RATE, "fltp", Fraction(1, AUDIO_RATE)
    encoder.layout = "mono" if stream.codec_context.channels == 1 else "stereo"
    encoder.bit_rate = AUDIO_BITRATE_BPS
    encoder.flags |= Flags.global_header
    _open(encoder)
    return encoder


def _open(encoder: VideoCodecContext | AudioCodecContext) -> None:
    try:
        encoder.open()
    except av.error.FFmpegError as error:
        raise MediaError(f"cannot start the {encoder.name} encoder: {error.strerror}") from error


def _resampler(encoder: AudioCodecContext) -> AudioResampler:
    return AudioResampler(
        format=encoder.format.name, layout=encoder.layout.name, rate=AUDIO_RATE, frame_size=encoder.frame_size
    )
