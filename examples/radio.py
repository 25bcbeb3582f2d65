"""A radio station, and a listener that records it: `python radio.py [music.mp3] recording.ts`; without music, a tone.

It needs a super-node: run `cubecast supernode` in another terminal first.
"""

import array
import asyncio
import math
import sys
import tempfile
import wave

import cubecast

RATE, SECONDS = 48_000, 5


def write_tone(path: str) -> None:
    """Writes a tone of 440 Hz."""
    with wave.open(path, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        samples = (int(8000 * math.sin(2 * math.pi * 440 * n / RATE)) for n in range(RATE * SECONDS))
        file.writeframes(array.array("h", samples).tobytes())


async def main(music: str, recording: str) -> None:
    """Sends the music in real time, and records it at a listener."""
    async with cubecast.join(name="station", listen="127.0.0.1:0", on_event=print) as station:
        async with station.publish("radio", music) as programme:
            async with cubecast.join(name="listener", listen="127.0.0.1:0", on_event=print) as listener:
                subscription = listener.subscribe("radio", bound_ms=500, loss=0.01)
                await listener.record(subscription, recording).run()
            await programme.done()


with tempfile.TemporaryDirectory() as folder:
    if len(sys.argv) < 3:
        write_tone(f"{folder}/tone.wav")
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 2 else f"{folder}/tone.wav", sys.argv[-1]))
