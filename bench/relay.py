"""CPU a relay spends per GB it forwards: a `cubecast host` beside a bare moq-rs relay, paired in one run.

    python bench/relay.py [--rounds N] [--seconds S] [--json]

Publisher and subscriber are the same code on both sides (ChannelWriter, ChannelReader); only the relay between them
differs. Each round runs both, one after the other; the ratio quoted is the median over rounds of the same frame size.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import moq
import psutil
import uvloop

from cubecast.bench.rows import Row, tell
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import Tree
from cubecast.frames import EncodedFrame, Kind, TrackFormat
from cubecast.host.channel.reader import ChannelReader
from cubecast.host.channel.tracks import ChannelWriter, CopyCount
from cubecast.host.config import HostConfig
from cubecast.host.open_host import open_host
from cubecast.host.tasks import Tasks
from cubecast.overlay.cube import Cube
from cubecast.supernode.server import TOKEN_FILE, SupernodeConfig, serving
from cubecast.types import ChannelName, HostId

BAR = 1.1
CHANNEL = ChannelName("bench")
LOADS = {1200: 4000, 16_384: 2000}
"""Frames a second, by frame size: about 38 and 262 Mbit/s."""
GROUP = 50
TRACK = TrackFormat(Kind.VIDEO, "vp8", width=640, height=360)
KEYFRAME = b"\x10\x00\x00\x9d\x01\x2a\x80\x02\x68\x01"
INTERFRAME = b"\x11\x00\x00"
CACHE_BYTES = 32 << 20


@dataclass
class Path2:
    """A publisher's writer and a subscriber's reader with one relay process between them."""

    relay: psutil.Process
    writer: ChannelWriter
    reader: ChannelReader


async def measure(path: Path2, size: int, seconds: float, group: asyncio.TaskGroup) -> float:
    """CPU seconds the relay spends per GB of frames delivered."""
    await path.reader.open()
    tasks = Tasks(group)
    path.reader.start(tasks)
    delivered = 0

    async def count() -> None:
        nonlocal delivered
        async for received in path.reader.frames():
            delivered += len(received.frame.payload)

    counting = asyncio.ensure_future(count())
    await asyncio.sleep(1.5)  # the subscription and the warm-up padding cross the relay
    before = cpu_s(path.relay)
    await send(path.writer, size, LOADS[size], seconds)
    await asyncio.sleep(0.5)
    spent = cpu_s(path.relay) - before
    expected = sum(path.writer.published) * size
    path.reader.stop()
    await counting
    if delivered < 0.999 * expected:
        raise SystemExit(f"only {delivered} of {expected} bytes arrived; the machine is too busy for this benchmark")
    return spent / (delivered / 1e9)


async def send(writer: ChannelWriter, size: int, rate: int, seconds: float) -> None:
    """Writes frames at a steady rate."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    key, inter = (head + bytes(size - len(head)) for head in (KEYFRAME, INTERFRAME))
    for number in range(round(rate * seconds)):
        due = begun + number / rate
        if due - loop.time() > 0.001:
            await asyncio.sleep(due - loop.time())
        first = number % GROUP == 0
        us = round(number * 1e6 / rate)
        writer.write(EncodedFrame(0, us, us, 0, first, key if first else inter), due)


def cpu_s(process: psutil.Process) -> float:
    """User and system time of a process, s."""
    times = process.cpu_times()
    return float(times.user + times.system)


@asynccontextmanager
async def bare() -> AsyncIterator[Path2]:
    """Publisher, a relay of a dozen lines over moq-rs, subscriber."""
    origin = moq.OriginProducer(cache_capacity_bytes=CACHE_BYTES)
    async with moq.Server("127.0.0.1:0", tls_generate=["localhost"], publish=origin, subscribe=None) as server:
        pin = server.cert_fingerprints()[0]
        serve = asyncio.ensure_future(server.serve())
        command = [sys.executable, __file__, "--be-bare-relay", server.local_addr, pin]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220  ended below
        assert process.stdout is not None
        address, relay_pin = (await asyncio.to_thread(process.stdout.readline)).split()
        writer = ChannelWriter(origin, [TRACK], CopyCount())
        inbox = moq.OriginProducer(cache_capacity_bytes=CACHE_BYTES)
        try:
            async with client(address, relay_pin, inbox):
                reader = ChannelReader(inbox, 1000.0, CopyCount(), asyncio.get_running_loop().time)
                yield Path2(psutil.Process(process.pid), writer, reader)
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()
            serve.cancel()


def client(address: str, pin: str, origin: moq.OriginProducer) -> moq.Client:
    return moq.Client(
        f"https://{address}/bench", tls_fingerprints=[pin], websocket_enabled=False, reconnect=False,
        subscribe=origin, publish=moq.OriginProducer(),
    )  # fmt: skip


async def bare_relay(upstream: str, pin: str) -> None:
    """The whole of a bare relay: one origin, pulled into and served from."""
    origin = moq.OriginProducer(cache_capacity_bytes=CACHE_BYTES)
    async with (
        moq.Server("127.0.0.1:0", tls_generate=["localhost"], publish=origin, subscribe=None) as server,
        client(upstream, pin, origin),
    ):
        print(server.local_addr, server.cert_fingerprints()[0], flush=True)
        await server.serve()


@asynccontextmanager
async def cubecast() -> AsyncIterator[Path2]:
    """Publisher at 00, `cubecast host` at 01, subscriber at 11; a host at 10 that sends no copies."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        async with serving(SupernodeConfig("127.0.0.1", 0, state, Cube(2, 2), 4, 1)) as service:
            url, token = f"http://127.0.0.1:{service.port}", (state / TOKEN_FILE).read_text().strip()

            def config(name: str, label: str, fan_out: int) -> HostConfig:
                return HostConfig(HostId(name), url, token, "127.0.0.1:0", label=label, fan_out=fan_out)

            options = ["--supernode", url, "--token", token, "--listen", "127.0.0.1:0", "--name", "r", "--label", "01"]
            command = [sys.executable, "-m", "cubecast", "host", *options]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: ASYNC220  ended below
            try:
                async with (
                    open_host(config("p", "00", 8), print) as publisher,
                    open_host(config("x", "10", 0), print),
                    open_host(config("s", "11", 0), print) as subscriber,
                ):
                    while len(service.engine.members) < 4:  # noqa: ASYNC110  a benchmark may look
                        await asyncio.sleep(0.05)
                    await asyncio.sleep(1.0)
                    writer = await publisher.publish(CHANNEL, [TRACK], Tree.CUBE)
                    subscription = await subscriber.subscribe(CHANNEL, Contract(1000.0))
                    assert subscription.terms.metrics.path[1] == "r", subscription.terms.metrics.path
                    yield Path2(psutil.Process(process.pid), writer, subscription._reader)  # noqa: SLF001
            finally:
                process.terminate()
                process.wait()


async def compare(rounds: int, seconds: float) -> list[Row]:
    """Both relays, round by round, for each frame size."""
    rows = []
    for size in LOADS:
        figures: dict[str, list[float]] = {"bare moq-rs relay": [], "cubecast relay": []}
        for number in range(rounds):
            order = [("bare moq-rs relay", bare), ("cubecast relay", cubecast)]
            for name, setup in order if number % 2 == 0 else reversed(order):
                async with setup() as path, asyncio.TaskGroup() as group:
                    figures[name].append(await measure(path, size, seconds, group))
            print(
                f"round {number + 1} of {rounds}, {size} B: "
                + ", ".join(f"{k} {v[-1]:.2f}" for k, v in figures.items()),
                file=sys.stderr,
            )
        ours, theirs = figures["cubecast relay"], figures["bare moq-rs relay"]
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        rows.append(
            Row(
                f"cubecast relay, {size} B frames",
                round(statistics.median(ours), 3),
                "CPU s/GB",
                f"bare moq-rs relay, {statistics.median(theirs):.3f} CPU s/GB",
                round(ratio, 3),
                BAR,
                ratio <= BAR,
            )
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--be-bare-relay", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.be_bare_relay:
        asyncio.run(bare_relay(*args.be_bare_relay))
        return 0
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        rows = runner.run(compare(args.rounds, args.seconds))
    return tell(rows, args.json)


if __name__ == "__main__":
    sys.exit(main())
