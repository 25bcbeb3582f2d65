"""Attacks on other hosts: reading without a right, forged records, and bytes that should end a process."""

import asyncio
import random

import moq
import msgspec

from cubecast.engine.protocol.feasibility import FeasibilityDistance
from cubecast.engine.protocol.frames import VERSION
from cubecast.engine.protocol.messages import (
    Attach,
    Carried,
    Commit,
    Confirm,
    Heartbeat,
    Message,
    PathOffer,
    PathRequest,
    PathUpdate,
    Pong,
    Relatives,
    StandbyRequest,
    SubtreeContract,
)
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.records import HostRecord
from cubecast.hostile.peer import joined
from cubecast.hostile.target import Outcome, Target
from cubecast.types import ChannelName, HostId, Label

GARBAGE_FRAMES = 200
"""Frames of random bytes that each host is sent."""
WAIT_S = 2.0
"""Time for what an attack provokes, s."""
ENDS = (0, -1, 2**31, 2**53, 2**63 - 1, -(2**63))
"""Whole numbers at the edges of common types."""
FLOATS = (float("nan"), float("inf"), float("-inf"), -1.0, 1e308, 5e-324)
"""Numbers that a delay, rate or time must not be."""


async def read_without_a_right(target: Target) -> Outcome:
    """Asks every host for a channel that its token does not allow, in every way, and dials their media sessions."""
    async with joined(target, "mallory", target.poor_token) as peer:
        me = peer.record.host
        for host, record in (await peer.hosts()).items():
            if not await peer.link(record):
                continue
            for ask, message in enumerate(_requests(target.channel, me, host)):
                peer.send(host, message)
                peer.send(host, Commit(ask))
            await asyncio.sleep(0.2)
            peer.plane.parent_sessions.pull(target.channel, record, bridged=False)
        await asyncio.sleep(WAIT_S)
        confirmed = {host for host, message in peer.received if isinstance(message, Confirm)}
        got = sorted(peer.pulled_from | confirmed)
        return Outcome(bool(got), f"the channel came from {got}" if got else "no host sent it")


def _requests(channel: ChannelName, me: HostId, host: HostId) -> tuple[Message, ...]:
    """Requests for itself, and for a subscriber that it pretends to relay for."""
    contract = Contract(1e6)
    return tuple(
        each
        for trail in ((me,), (HostId("s01"), me))
        for each in (
            Attach(1, channel, contract, trail),
            PathRequest(2, channel, 0, Label(0), contract, 5, trail),
            StandbyRequest(channel, trail, host),
        )
    )


async def forge_records(target: Target) -> Outcome:
    """Names the publisher at an address and with a certificate of its own, to be dialled in its place."""
    trap = moq.Server("127.0.0.1:0", tls_generate=["localhost"], publish=moq.OriginProducer(), subscribe=None)
    async with trap, joined(target, "mallory", target.token) as peer:
        dialled: list[str] = []
        address, fingerprint = trap.local_addr, trap.cert_fingerprints()[0]

        async def wait() -> None:
            async for request in trap:
                dialled.append(str(request.query))
                await request.reject(401)

        waiting = asyncio.ensure_future(wait())
        for host, record in (await peer.hosts()).items():
            if host == target.victim or not await peer.link(record):
                continue
            forged = [
                HostRecord(
                    target.victim,
                    address,
                    fingerprint,
                    "ab" * 32,
                    Label(0),
                    8,
                    True,
                    2**53,
                    signature,
                )
                for signature in ("", "ab" * 64, peer.record.signature)
            ]
            for each in forged:
                peer.send(host, Relatives(target.channel, (each,)))
                peer.send(host, PathUpdate(target.channel, _path(target), 0, Label(0), flowing=True, fed=True))
        await asyncio.sleep(WAIT_S)
        waiting.cancel()
        return Outcome(bool(dialled), f"{len(dialled)} sessions came to the forged address")


async def send_edges(target: Target) -> Outcome:
    """Sends every host messages with numbers at the edges of their types; whether a host ends is seen from outside."""
    async with joined(target, "mallory", target.token) as peer:
        sent = 0
        for host, record in (await peer.hosts()).items():
            if not await peer.link(record):
                continue
            for message in _edges(target, peer.record.host):
                peer.send(host, message)
                sent += 1
                await asyncio.sleep(0)
        await asyncio.sleep(WAIT_S)
        return Outcome(False, f"{sent} messages")


def _edges(target: Target, me: HostId) -> list[Message]:
    channel, contract = target.channel, Contract(1e6)
    found: list[Message] = []
    for number in ENDS:
        for other in ENDS:
            distance = FeasibilityDistance(number, other)
            found.append(PathRequest(number, channel, other, Label(number), contract, 5, (me,), distance))
            found.append(Attach(number, channel, contract, (me,), distance))
        found.append(Commit(number))
        found.append(PathOffer(number, channel, PathMetrics(1.0, 1.0, (target.victim, me), number), number))
        found.append(
            PathUpdate(channel, _path(target), number, Label(number), flowing=True, fed=True, pause_ticks=number)
        )
    for value in FLOATS:
        metrics = PathMetrics(value, value, (target.victim, me), 1, value, value, value, value)
        found.append(Heartbeat((Carried(channel, metrics, 2**31),), True, False, value, value, value))
        found.append(Pong(value, value))
        found.append(PathUpdate(channel, metrics, 0, Label(0), flowing=True, fed=True))
        found.append(SubtreeContract(channel, Contract(value, value, value)))
        found.append(PathOffer(1, channel, metrics, 1))
        found.append(Attach(1, channel, Contract(value, value, value), (me,)))
    return found


async def send_garbage(target: Target) -> Outcome:
    """Sends every host frames of random bytes, and mutations of good ones."""
    rng = random.Random(1)  # noqa: S311  no secret
    good = msgspec.msgpack.encode({"v": VERSION, "m": [{"kind": "ping", "sent_s": 1.0}]})
    async with joined(target, "mallory", target.token) as peer:
        sent = 0
        for host, record in (await peer.hosts()).items():
            if not await peer.link(record):
                continue
            for _ in range(GARBAGE_FRAMES):
                mutated = bytearray(good)
                mutated[rng.randrange(len(mutated))] = rng.randrange(256)
                for payload in (rng.randbytes(rng.randrange(1, 400)), bytes(mutated), b"\xdd\xff\xff\xff\xff"):
                    peer.send_bytes(host, payload)
                    sent += 1
                await asyncio.sleep(0)
        await asyncio.sleep(WAIT_S)
        return Outcome(False, f"{sent} frames")


def _path(target: Target) -> PathMetrics:
    return PathMetrics(0.0, 0.0, (target.victim,), 2**52)
