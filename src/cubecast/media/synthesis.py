"""Generates clips for demos and tests: a moving picture with a progress bar, and a rising tone."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from cubecast.types import Floats

WIDTH, HEIGHT, FRAME_RATE = 640, 360, 25
"""Size in pixels, and frames per second, of `synthesise`."""
LIGHT_FRAME_RATE = 5
"""Frames per second of `synthesise_light`."""
AUDIO_RATE, AUDIO_FRAME = 48_000, 1024
"""Sample rate in Hz, and samples per frame."""
GOP_S = 1
"""Interval between keyframes, s."""


def synthesise_light(path: Path, seconds: float = 8.0) -> None:
    """Writes an H.264 clip without sound, 160 x 90 at 5 fps: little load, for many hosts on one machine."""
    with av.open(str(path), mode="w", format="mp4") as out:
        video = out.add_stream("libx264", rate=LIGHT_FRAME_RATE)
        video.width, video.height, video.pix_fmt = WIDTH // 4, HEIGHT // 4, "yuv420p"
        video.codec_context.gop_size = LIGHT_FRAME_RATE * GOP_S
        video.options = {"preset": "veryfast", "crf": "30", "bf": "0"}
        total = round(seconds * LIGHT_FRAME_RATE)
        for index in range(total):
            picture = VideoFrame.from_ndarray(np.ascontiguousarray(_picture(index, total)[::4, ::4]), format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, LIGHT_FRAME_RATE)
            out.mux(video.encode(picture))
        out.mux(video.encode(None))


def synthesise(path: Path, seconds: float = 8.0, scale: int = 1) -> None:
    """Writes an H.264 + AAC clip in MP4: 640 x 360 at 25 fps, stereo 48 kHz; `scale` 2 gives 720p."""
    with av.open(str(path), mode="w", format="mp4") as out:
        video = out.add_stream("libx264", rate=FRAME_RATE)
        video.width, video.height, video.pix_fmt = scale * WIDTH, scale * HEIGHT, "yuv420p"
        video.codec_context.gop_size = FRAME_RATE * GOP_S
        video.options = {"preset": "veryfast", "crf": "24"}
        audio = out.add_stream("aac", rate=AUDIO_RATE, layout="stereo")
        for index in range(round(seconds * FRAME_RATE)):
            pixels = _picture(index, round(seconds * FRAME_RATE)).repeat(scale, axis=0).repeat(scale, axis=1)
            picture = VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, FRAME_RATE)
            out.mux(video.encode(picture))
        for start in range(0, round(seconds * AUDIO_RATE), AUDIO_FRAME):
            sound = AudioFrame.from_ndarray(_tone(start).astype(np.float32), format="fltp", layout="stereo")
            sound.sample_rate, sound.pts, sound.time_base = AUDIO_RATE, start, Fraction(1, AUDIO_RATE)
            out.mux(audio.encode(sound))
        out.mux(video.encode(None))
        out.mux(audio.encode(None))


def _picture(index: int, total: int) -> np.ndarray:
    """A moving gradient; the bar at the bottom shows the progress of the clip."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    picture = np.stack([(x + 4 * index) % 256, (y + 2 * index) % 256, (x + y + 3 * index) % 256], axis=-1)
    picture = picture.astype(np.uint8)
    picture[-24:, : WIDTH * (index + 1) // total] = 255
    return picture


def _tone(start: int) -> Floats:
    """AUDIO_FRAME samples of a sine that rises one octave every two seconds, with a beep each second; shape (2, n)."""
    t = (start + np.arange(AUDIO_FRAME)) / AUDIO_RATE
    sweep = 0.15 * np.sin(2 * np.pi * 220 * 2 / np.log(2) * (2 ** ((t % 8) / 2) - 1))
    beep = np.where(t % 1 < 0.05, 0.4 * np.sin(2 * np.pi * 1000 * t), 0.0)
    return np.stack([sweep + beep, sweep + beep])
