"""Generates small clips in any codec with PyAV."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

RATE = 48_000


def encode(
    path: Path, video: str | None, audio: str | None, seconds: float = 1.0, options: dict[str, str] | None = None
) -> None:
    """Writes a clip; the container is chosen by the file's name."""
    with av.open(str(path), mode="w") as out:
        pictures = None if video is None else out.add_stream(video, rate=25, options=options or {})
        sound = None if audio is None else out.add_stream(audio, rate=RATE, layout="stereo")
        if isinstance(pictures, VideoStream):
            pictures.width, pictures.height = 160, 90
            pictures.pix_fmt = "yuvj420p" if video == "mjpeg" else "yuv420p"
            _pictures(out, pictures, seconds)
        if isinstance(sound, AudioStream):
            _sound(out, sound, seconds)


def _pictures(out: OutputContainer, stream: VideoStream, seconds: float) -> None:
    for index in range(round(seconds * 25)):
        grey = np.full((90, 160, 3), (index * 9) % 256, dtype=np.uint8)
        frame = VideoFrame.from_ndarray(grey, format="rgb24")
        frame.pts, frame.time_base = index, Fraction(1, 25)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def _sound(out: OutputContainer, stream: AudioStream, seconds: float) -> None:
    context = stream.codec_context
    assert isinstance(context, AudioCodecContext)
    size = context.frame_size or 1024
    for start in range(0, round(seconds * RATE), size):
        t = (start + np.arange(size)) / RATE
        wave = (8000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)
        piece = AudioFrame.from_ndarray(np.repeat(wave, 2)[None], format="s16", layout="stereo")
        piece.sample_rate, piece.pts, piece.time_base = RATE, start, Fraction(1, RATE)
        for each in AudioResampler(context.format.name, "stereo", RATE).resample(piece):
            out.mux(stream.encode(each))
    out.mux(stream.encode(None))


def remux(source: Path, target: Path) -> None:
    """Copies the packets to another container."""
    with av.open(str(source)) as opened, av.open(str(target), mode="w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in opened.streams}
        for packet in opened.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
