"""Publisher, relay process and subscriber for `cubecast bench relay`, with either relay, and the load sent over them.

Publisher and subscriber are the same code on both paths (ChannelWriter, ChannelReader); only the relay differs.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import moq
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cubecast.bench.bare_relay import CACHE_BYTES, client
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import Tree
from cubecast.frames import EncodedFrame, Kind, TrackFormat
from cubecast.host.channel.reader import ChannelReader
from cubecast.host.channel.records import (
    BATCH_FRAMES_MAX,
    BATCH_S,
    BatchContent,
    BatchEnd,
    EndRecord,
    FrameRecord,
    encode_record,
)
from cubecast.host.channel.signing import BATCH, DIGEST_BYTES, ChannelSigner, Publication, PublisherKey
from cubecast.host.channel.tracks import ChannelWriter, CopyCount
from cubecast.host.channel.verification import Verification
from cubecast.host.config import HostConfig
from cubecast.host.open_host import open_host
from cubecast.host.tasks import Tasks
from cubecast.overlay.cube import Cube
from cubecast.supernode.server import TOKEN_FILE, SupernodeConfig, serving
from cubecast.types import ChannelName, HostId

CHANNEL = ChannelName("bench")
TRACK = TrackFormat(Kind.VIDEO, "vp8", width=640, height=360)
KEYFRAME = b"\x10\x00\x00\x9d\x01\x2a\x80\x02\x68\x01"
"""Header of a VP8 keyframe of 640 x 360 pixels; zeros fill the frame up to its size."""
INTERFRAME = b"\x11\x00\x00"
"""Header of a VP8 frame that is not a keyframe; filled up likewise."""
GROUP = 50
"""Frames in a group."""
BOUND_MS = 1000.0
"""The subscriber's bound on both paths, ms."""
WARM_UP_S = 1.5
"""Time for the subscription and its warm-up padding to cross the relay before the load starts, s."""
IDLE_S = 1.0
"""Time after the warm-up in which the relay's CPU use without load is measured, s."""
DRAIN_S = 0.5
"""Maximum time between sending the last frame and its arrival, s; a frame that needs longer counts as lost."""
CPU_CLOCK = 2
"""Linux's CPUCLOCK_SCHED: user and system time from the scheduler."""
BATCHES = 50
"""Number of batches over which the cost of authentication is measured."""
YIELD_FRAMES = 32
"""Number of frames after which a sender behind its schedule yields to the reader once."""


@dataclass(frozen=True, slots=True)
class RelayPath:
    """A publisher's writer and a subscriber's reader with one relay process between them.

    Attributes:
        pid: process ID of the relay.
    """

    pid: int
    writer: ChannelWriter
    reader: ChannelReader


@dataclass(frozen=True, slots=True)
class Load:
    """The result of one load.

    Attributes:
        sent: frames.
        delivered: frames, at most DRAIN_S after the last was sent.
        seconds: time that sending took.
        relay_cpu_s: user and system time of the relay, without what it would have spent in that time when idle.
        idle_share: CPU time of the idle relay for each second, s, measured before the load.
    """

    sent: int
    delivered: int
    seconds: float
    relay_cpu_s: float
    idle_share: float


class Traffic:
    """Sends frames of one size over a path and counts those that arrive."""

    def __init__(self, path: RelayPath, size: int) -> None:
        self._path = path
        self._key, self._inter = (head + bytes(size - len(head)) for head in (KEYFRAME, INTERFRAME))
        self._time_us = 0
        self._delivered = self._wanted = 0
        self._complete = asyncio.Event()
        self._idle_share = 0.0

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Subscribes, waits until the path is warm, and measures the idle relay."""
        await self._path.reader.open()
        self._path.reader.start(Tasks(group))
        group.create_task(self._count())
        await asyncio.sleep(WARM_UP_S)
        cpu_before_s = cpu_s(self._path.pid)
        await asyncio.sleep(IDLE_S)
        self._idle_share = (cpu_s(self._path.pid) - cpu_before_s) / IDLE_S

    def stop(self) -> None:
        """Ends the subscription."""
        self._path.reader.stop()

    async def _count(self) -> None:
        async for _ in self._path.reader.frames():
            self._delivered += 1
            if self._delivered >= self._wanted:
                self._complete.set()

    async def offer(self, rate: int, seconds: float) -> Load:
        """Sends `rate` frames per second for `seconds`, and waits until all have arrived, at most DRAIN_S."""
        loop = asyncio.get_running_loop()
        sent, delivered_before, cpu_before_s = round(rate * seconds), self._delivered, cpu_s(self._path.pid)
        self._wanted = delivered_before + sent
        self._complete.clear()
        started = loop.time()
        await self._send(rate, sent)
        ended = loop.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._complete.wait()
        spent_s = cpu_s(self._path.pid) - cpu_before_s - self._idle_share * (loop.time() - started)
        return Load(sent, self._delivered - delivered_before, ended - started, spent_s, self._idle_share)

    async def _send(self, rate: int, count: int) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number in range(count):
            due = started + number / rate
            if due - loop.time() > 0.001:
                await asyncio.sleep(due - loop.time())
            elif number % YIELD_FRAMES == 0:
                await asyncio.sleep(0)
            first = number % GROUP == 0
            frame = EncodedFrame(0, self._time_us, self._time_us, 0, first, self._key if first else self._inter)
            self._path.writer.write(frame, due)
            self._time_us += round(1e6 / rate)


def cpu_s(pid: int) -> float:
    """User and system time of a process so far, s, in ns steps: its CPU clock, as clock_getcpuclockid(3) names it."""
    return time.clock_gettime((~pid << 3) | CPU_CLOCK)


class _Unsigned(ChannelSigner):
    """Computes no digest, and signs nothing."""

    def digest(self, record: FrameRecord, payload: bytes) -> bytes:  # noqa: ARG002
        return bytes(DIGEST_BYTES)

    def sign(self, kind: str, *values: object) -> bytes:  # noqa: ARG002
        return bytes(64)


class _Unchecked(Verification):
    """Accepts everything."""

    def frame(self, record: FrameRecord, payload: bytes) -> bool:  # noqa: ARG002
        return True

    def batch(self, content: BatchContent, end: BatchEnd) -> bool:  # noqa: ARG002
        return True

    def end(self, end: EndRecord) -> bool:  # noqa: ARG002
        return True

    def format(self, signature: bytes, content: bytes) -> bool:  # noqa: ARG002
        return True


def _ends(
    origin: moq.OriginProducer, inbox: moq.OriginProducer, *, checked: bool = True
) -> tuple[ChannelWriter, ChannelReader]:
    """A publisher's writer and a subscriber's reader.

    Args:
        checked: whether frames are signed and checked, as always but for comparison.
    """
    key, publication = Ed25519PrivateKey.generate(), Publication(CHANNEL, 1)
    public = PublisherKey(publication, key.public_key().public_bytes_raw().hex())
    signer = (ChannelSigner if checked else _Unsigned)(key, publication)
    verification = (Verification if checked else _Unchecked)(public)
    writer = ChannelWriter(origin, [TRACK], CopyCount(), signer)
    clock = asyncio.get_running_loop().time
    return writer, ChannelReader(inbox, BOUND_MS, CopyCount(), clock, verification)


@asynccontextmanager
async def unsigned_path() -> AsyncIterator[RelayPath]:
    """A path without a relay: publisher and subscriber are in this process, whose CPU time is measured; nothing is signed."""
    origin, inbox = (moq.OriginProducer(cache_capacity_bytes=CACHE_BYTES) for _ in range(2))
    async with moq.Server("127.0.0.1:0", tls_generate=["localhost"], publish=origin, subscribe=None) as server:
        serve = asyncio.ensure_future(server.serve())
        try:
            writer, reader = _ends(origin, inbox, checked=False)
            async with client(server.local_addr, server.cert_fingerprints()[0], inbox):
                yield RelayPath(os.getpid(), writer, reader)
        finally:
            serve.cancel()


def authentication_us(size: int, rate: int) -> float:
    """CPU time, us, that publisher and subscriber together spend on digest, signatures and checks of a frame.

    Args:
        size: of a frame, bytes.
        rate: frames/s: so many as come in BATCH_S share a signature.
    """
    key, publication = Ed25519PrivateKey.generate(), Publication(CHANNEL, 1)
    signer = ChannelSigner(key, publication)
    verification = Verification(PublisherKey(publication, key.public_key().public_bytes_raw().hex()))
    frames = min(BATCH_FRAMES_MAX, max(1, round(rate * BATCH_S)))
    payloads = [number.to_bytes(8, "big") + bytes(size - 8) for number in range(frames)]
    records = [FrameRecord(0, number, number, number, 1, True, 0.0, 0, b"") for number in range(frames)]
    encoded = encode_record(msgspec.structs.replace(records[0], digest=bytes(DIGEST_BYTES)))  # without signatures, too
    started_s = time.thread_time()
    for batch in range(BATCHES):
        sent, received = BatchContent(batch), BatchContent(batch)
        for record, payload in zip(records, payloads, strict=True):
            digest = signer.digest(record, payload)
            sent.add(encoded)
            received.add(encoded)
            assert verification.frame(msgspec.structs.replace(record, digest=digest), payload), "nobody has altered it"
        end = BatchEnd(frames, signer.sign(BATCH, *sent.signed))
        assert verification.batch(received, end), "nobody has altered it"
    return 1e6 * (time.thread_time() - started_s) / (BATCHES * frames)


@asynccontextmanager
async def bare_path() -> AsyncIterator[RelayPath]:
    """A path over a bare moq-rs relay."""
    origin = moq.OriginProducer(cache_capacity_bytes=CACHE_BYTES)
    async with moq.Server("127.0.0.1:0", tls_generate=["localhost"], publish=origin, subscribe=None) as server:
        serve = asyncio.ensure_future(server.serve())
        command = [sys.executable, "-m", "cubecast.bench.bare_relay", server.local_addr, server.cert_fingerprints()[0]]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220  ended below
        assert process.stdout is not None
        try:
            address, fingerprint = (await asyncio.to_thread(process.stdout.readline)).split()
            inbox = moq.OriginProducer(cache_capacity_bytes=CACHE_BYTES)
            writer, reader = _ends(origin, inbox)
            async with client(address, fingerprint, inbox):
                yield RelayPath(process.pid, writer, reader)
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()
            serve.cancel()


@asynccontextmanager
async def cubecast_path() -> AsyncIterator[RelayPath]:
    """A path over `cubecast host`: publisher at label 00, relay at 01, subscriber at 11.

    The host at 10 has fan-out 0, so the relay at 01 is the subscriber's only possible parent besides the publisher.
    """
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        directory = SupernodeConfig("127.0.0.1", 0, state, Cube(2, 2), 4, 1)
        async with serving(directory) as service:
            url, token = directory.url(service.port), (state / TOKEN_FILE).read_text().strip()

            def config(name: str, label: str, fan_out: int) -> HostConfig:
                return HostConfig(HostId(name), url, token, "127.0.0.1:0", label=label, fan_out=fan_out)

            options = ["--supernode", url, "--token", token, "--listen", "127.0.0.1:0", "--name", "r", "--label", "01"]
            options += ["--key", str(state / "r.pem")]
            command = [sys.executable, "-m", "cubecast", "host", *options]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: ASYNC220  ended below
            try:
                async with (
                    open_host(config("p", "00", 8), print) as publisher,
                    open_host(config("x", "10", 0), print),
                    open_host(config("s", "11", 0), print) as subscriber,
                ):
                    while len(service.engine.members) < 4:  # noqa: ASYNC110  the engine offers nothing to wait on
                        await asyncio.sleep(0.05)
                    await asyncio.sleep(1.0)
                    writer = await publisher.publish(CHANNEL, [TRACK], Tree.CUBE)
                    subscription = await subscriber.subscribe(CHANNEL, Contract(BOUND_MS))
                    assert subscription.terms.metrics.path[1] == "r", subscription.terms.metrics.path
                    yield RelayPath(process.pid, writer, subscription._reader)  # noqa: SLF001  counts without decoding
            finally:
                process.terminate()
                process.wait()


OpenPath = Callable[[], AbstractAsyncContextManager[RelayPath]]
"""`bare_path` or `cubecast_path`."""
