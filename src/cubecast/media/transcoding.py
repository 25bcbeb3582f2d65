"""Converts demuxed packets to frames for MoQ media tracks: unchanged if MoQ carries the codec, otherwise transcoded."""

from __future__ import annotations

from collections.abc import Iterator

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from cubecast.errors import MediaError
from cubecast.frames import US, Kind, TrackFormat
from cubecast.media.encoding import FRAME_RATE_DEFAULT, MICROSECOND, AudioEncoder, Converted, VideoEncoder

CARRIED = {"h264", "hevc", "av1", "vp8", "vp9", "aac", "opus", "flac", "mp3"}
"""Codecs that MoQ media tracks carry."""
_FLAC_STREAMINFO_BYTES = 34
"""Length of a FLAC STREAMINFO block."""


def passes_through(stream: Stream) -> bool:
    """Whether the packets of a stream can be sent unchanged."""
    codec = _canonical(stream)
    extradata = bytes(stream.codec_context.extradata or b"")
    if codec in ("h264", "hevc", "flac", "opus") and not extradata:
        return (
            False  # a subscriber that joins later could not start: there is no codec configuration outside the packets
        )
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
    """Passes packets through unchanged, except that ADTS headers are removed from AAC, because MoQ carries raw AAC.

    Attributes:
        note: always empty; see `Transcoder`.
        ready: whether `format` is complete; for mp3 and ADTS it is once the first packet was converted.
    """

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
        """Continues with the same track of the source after it was opened again."""
        self._time_base = stream.time_base or MICROSECOND
        adts = _canonical(stream) == "aac" and not stream.codec_context.extradata
        self._adts_filter = BitStreamFilterContext("aac_adtstoasc", stream) if adts else None
        self._next_dts_us: int | None = None

    def convert(self, packet: Packet[Stream] | None) -> Iterator[Converted]:
        """The frames of one packet; pass None at the end of the source."""
        if packet is None:
            return
        pts, dts, duration, keyframe = packet.pts, packet.dts, packet.duration, packet.is_keyframe
        payload = bytes(packet) if self._adts_filter is None else self._raw_aac(packet)
        if not payload:
            return
        if self._needs_first and not self.ready:
            self._complete_format(payload)
        pts = dts if pts is None else pts
        if pts is None:
            return  # without a timestamp
        pts_us = self._us(pts)
        dts_us = min(pts_us, self._next_dts_us or pts_us) if dts is None else self._us(dts)
        duration_us = self._us(duration or 0)
        self._next_dts_us = dts_us + max(1, duration_us)
        yield Converted(pts_us, dts_us, duration_us, keyframe, payload)

    def _us(self, value: int) -> int:
        return round(value * self._time_base * US)

    def _raw_aac(self, packet: Packet[Stream]) -> bytes:
        payload = b""
        for filtered in self._adts_filter.filter(packet) if self._adts_filter is not None else ():
            for side in filtered.iter_sidedata():
                if str(side.data_type).lower().endswith("new_extradata") and not self.format.extradata:
                    self._set_extradata(bytes(side))
            payload += bytes(filtered)
        return payload

    def _complete_format(self, first_payload: bytes) -> None:
        if self.format.codec == "mp3":
            self._set_extradata(first_payload[:4])
        else:
            self.ready = bool(self.format.extradata)

    def _set_extradata(self, extradata: bytes) -> None:
        f = self.format
        self.format = TrackFormat(f.kind, f.codec, extradata, sample_rate=f.sample_rate, channels=f.channels)
        self.ready = True


class Transcoder:
    """Decodes a track and encodes it to H.264 (low latency) or AAC.

    Attributes:
        note: line for the user: that the track is transcoded, and to what.
        ready: always true: `format` is known from the start.
    """

    ready = True

    def __init__(self, stream: Stream) -> None:
        self._open(stream)
        self.format = self._encoder.format
        self.note = f"{_canonical(stream)} cannot be carried by MoQ media tracks as it is; transcoding to {self.format}"

    def restart(self, stream: Stream) -> None:
        """Continues with the same track of the source after it was opened again."""
        self._open(stream)

    def _open(self, stream: Stream) -> None:
        self._decoder = stream.codec_context
        self._decoder_base = stream.time_base or MICROSECOND
        self._encoder: VideoEncoder | AudioEncoder
        if isinstance(stream, VideoStream):
            self._encoder = VideoEncoder(stream.width, stream.height, stream.average_rate or FRAME_RATE_DEFAULT)
        else:
            assert isinstance(stream, AudioStream)
            self._encoder = AudioEncoder(stream.codec_context.channels)

    def convert(self, packet: Packet[Stream] | None) -> Iterator[Converted]:
        """The frames that the encoder outputs for one packet; None flushes decoder and encoder."""
        try:
            decoded = self._decoder.decode(packet)  # type: ignore[attr-defined]
        except av.error.InvalidDataError:
            return  # the packet is damaged; the decoder continues with the next one
        for frame in decoded:
            if frame.pts is not None or isinstance(frame, AudioFrame):
                yield from self._encoder.encode(frame, frame.time_base or self._decoder_base)
        if packet is None:
            yield from self._encoder.flush()
