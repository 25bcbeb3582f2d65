"""One camera, three viewers, each within 1 s: `python camera_to_many.py rtsp://camera/stream`, or a file, or nothing.

It needs a super-node: run `cubecast supernode` in another terminal first.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import cubecast
from cubecast.errors import first_error
from cubecast.media.synthesis import synthesise


async def watch(name: str) -> None:
    """Joins as a host of its own, and receives 200 pictures. Meanwhile it also relays to other viewers."""
    async with cubecast.join(name=name, listen="127.0.0.1:0") as host, host.subscribe("camera", 1000) as camera:
        print(f"{name}: {camera.promised_ms:.0f} ms promised over {' -> '.join(camera.path)}")
        async for frame in camera:  # frame.payload is the encoded picture or sound
            if frame.track == 0 and frame.number and frame.number >= 200:
                break
        print(f"{name}: half of {camera.stats.frames.received} frames arrived within {camera.stats.delay_ms.p50} ms")


async def main(location: str) -> None:
    """Publishes the camera until every viewer has seen enough."""
    async with cubecast.Source(location, loop=True) as source, cubecast.join(name="cam", listen="127.0.0.1:0") as host:
        async with host.publish("camera", source), asyncio.TaskGroup() as viewers:
            for number in range(3):
                viewers.create_task(watch(f"viewer-{number}"))


with tempfile.TemporaryDirectory() as folder:
    synthesise(Path(folder, "clip.mp4"), seconds=5)
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/clip.mp4"))
    except (cubecast.CubecastError, ExceptionGroup) as error:
        sys.exit(f"camera_to_many.py: {first_error(error)}")
