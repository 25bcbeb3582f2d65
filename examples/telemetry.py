"""A sensor that sends a reading ten times a second, and a display that shows each within 200 ms: `python telemetry.py`.

It needs a super-node: run `cubecast supernode` in another terminal first.
"""

import asyncio
import json
import random
import sys

import cubecast
from cubecast.errors import first_error

READINGS = 30


async def measure(publication: cubecast.Publication) -> None:
    """Sends readings; each is one frame of a data track."""
    for _ in range(READINGS):
        reading = {"celsius": round(random.gauss(21, 0.5), 2)}
        publication.write(json.dumps(reading).encode())
        await asyncio.sleep(0.1)
    await publication.finish()


async def main() -> None:
    """Runs the sensor and the display, which would be on different machines."""
    async with cubecast.join(name="sensor", listen="127.0.0.1:0") as sensor:
        publication = await sensor.publish("temperature", [cubecast.data_track("json")])
        async with cubecast.join(name="display", listen="127.0.0.1:0") as display:
            async with display.subscribe("temperature", bound_ms=200) as subscription, asyncio.TaskGroup() as group:
                group.create_task(measure(publication))
                async for frame in subscription:
                    print(json.loads(frame.payload), f"{frame.delay_ms or 0:.1f} ms ago")


try:
    asyncio.run(main())
except (cubecast.CubecastError, ExceptionGroup) as error:
    sys.exit(f"telemetry.py: {first_error(error)}")
