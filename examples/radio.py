"""A radio station, and a listener that records it: `python radio.py [music.mp3] recording.ts`; without music, a tone.

It needs a super-node: run `cubecast supernode` in another terminal first.
"""

import asyncio
import math
import sys
import tempfile
import wave

import cubecast
from cubecast.errors import first_error


def write_tone(path: str) -> None:
    """Writes five seconds of a tone of 440 Hz."""
    with wave.open(path, "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        tone = (int(8000 * math.sin(2 * math.pi * 440 * n / 48_000)) for n in range(48_000 * 5))
        file.writeframes(b"".join(sample.to_bytes(2, "little", signed=True) for sample in tone))


async def main(music: str, recording: str) -> None:
    """Sends the music in real time, and records it at a listener."""
    async with cubecast.join(name="station", listen="127.0.0.1:0", on_event=print) as station:
        async with station.publish("radio", music) as programme:
            async with cubecast.join(name="listener", listen="127.0.0.1:0", on_event=print) as listener:
                await listener.record(listener.subscribe("radio", bound_ms=500, loss=0.01), recording).run()
            await programme.done()


if len(sys.argv) not in (2, 3) or sys.argv[1:2] == sys.argv[2:]:
    sys.exit("usage: python radio.py [music.mp3] recording.ts")
with tempfile.TemporaryDirectory() as folder:
    write_tone(f"{folder}/tone.wav")
    try:
        asyncio.run(main(*[f"{folder}/tone.wav", *sys.argv[1:]][-2:]))
    except (cubecast.CubecastError, ExceptionGroup) as error:
        sys.exit(f"radio.py: {first_error(error)}")
