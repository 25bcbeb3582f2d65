"""Attacks on the super-node: on names, on what belongs to others, on its answers."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from itertools import count

import httpx

from cubecast.engine.protocol.http_bodies import JoinRequest, RefreshRequest
from cubecast.engine.protocol.records import Compliance, SubscriptionRecord, Tree
from cubecast.errors import CubecastError, DirectoryError, TokenError
from cubecast.host.directory.client import DirectoryClient
from cubecast.hostile.peer import joined
from cubecast.hostile.target import Outcome, Target
from cubecast.types import ChannelName, HostId

LANES = 32
"""Joins that are under way at the same time in a storm."""
SLOW_S = 2.0
"""Time, s, within which the super-node must answer others during a storm: a host refreshes every 2 s, its lease is 6 s."""
POLL_S = 0.2
"""Pause between two requests of the others, s."""
BAD_REPORTS = (
    b'{"subscriptions": [{"channel": "%c", "subscriber": "mallory", "bound_ms": NaN, "state": "receiving"}]}',
    b'{"subscriptions": [{"channel": "%c", "subscriber": "mallory", "bound_ms": 1e999, "state": "receiving"}]}',
    b'{"subscriptions": [{"channel": "%c", "subscriber": "mallory", "bound_ms": '
    + b"9" * 400
    + b', "state": "receiving"}]}',
    b'{"subscriptions": [{"channel": "%c", "subscriber": "mallory", "bound_ms": 1, "state": "\\ud800"}]}',
    b'{"subscriptions": [{"channel": "\\u001b[2J", "subscriber": "mallory", "bound_ms": 1, "state": "\\u001b[31m"}]}',
    b'{"subscriptions": [{"channel": "%c", "subscriber": "mallory", "bound_ms": 1, "state": "receiving", "path": ["\\ud800"]}]}',
    b'{"links_ms": {"p00": -1e308, "\\ud800": 1}}',
    b'{"suspects": ["p00", "s01", "s02", "s03"]}',
    b'{"slots": -9223372036854775808}',
    b'{"slots": ' + b"9" * 400 + b"}",
    b"[" * 100_000,
)
"""Bodies of refreshes with values at the edges of what JSON can say; %c stands for the channel."""


async def take_over_a_name(target: Target) -> Outcome:
    """Joins under the name of the publisher: with a key of its own, and naming the publisher's."""
    client = DirectoryClient(target.supernode, target.token, lambda _: None)
    try:
        records = {record.host: record for record in (await client.overview()).hosts}
        for key in (client.identity.public_key, records[target.victim].key):
            try:
                await client.join(JoinRequest(target.victim, target.listen, "ab" * 32, key))
            except (DirectoryError, TokenError):
                continue
            return Outcome(True, "joined under the publisher's name")
        return await _publisher_is(target, client, "the name stays the publisher's")
    finally:
        await client.close()


async def act_for_another(target: Target) -> Outcome:
    """With a credential of its own: refreshes, leaves, withdraws and announces in the publisher's place."""
    async with joined(target, "mallory", target.token) as peer:
        client, victim = peer.client, target.victim
        attempts: tuple[Callable[[], Coroutine[object, object, object]], ...] = (
            lambda: client.refresh(victim, RefreshRequest()),
            lambda: client.leave(victim),
            lambda: client.announce(target.channel, Tree.HYBRID),
        )
        for attempt in attempts:
            try:
                await attempt()
            except (DirectoryError, TokenError):
                continue
            return Outcome(True, "the super-node took a request for another host's")
        await client.withdraw(target.channel)
        return await _publisher_is(target, client, "nothing of the publisher's has changed")


async def report_nonsense(target: Target) -> Outcome:
    """Reports values that no field may have; the views of the directory must stay readable for others."""
    async with joined(target, "mallory", target.token) as peer, httpx.AsyncClient(verify=False) as http:  # noqa: S501
        path = f"/v1/hosts/{peer.record.host}/refresh"
        for body in BAD_REPORTS:
            content = body.replace(b"%c", target.channel.encode())
            await peer.client._sent("POST", path, content, "")  # noqa: SLF001  no honest client sends such
            for view in ("/metrics", "/health"):
                answer = await http.get(f"{target.supernode}{view}")
                if answer.status_code != httpx.codes.OK:
                    return Outcome(True, f"{view} answers {answer.status_code} after {body[:60]!r}")
            await peer.client.overview()
        return Outcome(False, f"{len(BAD_REPORTS)} reports, all views readable")


async def report_for_another(target: Target) -> Outcome:
    """Reports a subscription in another host's name, and one of a channel that it may not receive."""
    async with joined(target, "mallory", target.poor_token) as peer:
        forged = (
            SubscriptionRecord(target.channel, HostId("s01"), 1.0, "receiving", 0.1, compliance=Compliance(9)),
            SubscriptionRecord(target.channel, peer.record.host, 1.0, "receiving", 0.1, path=(target.victim,)),
        )
        for record in forged:
            try:
                await peer.client.refresh(peer.record.host, RefreshRequest((record,)))
            except CubecastError:
                continue
        async with DirectoryOf(target) as client:
            believed = [each for each in (await client.overview()).subscriptions if each in forged]
        return Outcome(bool(believed), f"{len(believed)} of {len(forged)} false reports are in the overview")


async def join_in_a_storm(target: Target) -> Outcome:
    """Joins under new names as fast as it can, for as long as the attack lasts; the super-node must go on answering."""
    loop = asyncio.get_running_loop()
    ends_s, counts, slow = loop.time() + target.seconds, Counter[str](), 0

    async def storm(lane: int) -> None:
        for number in count():
            if loop.time() > ends_s:
                return
            async with DirectoryOf(target, target.poor_token) as client:
                address = f"127.99.{lane}.1:{number + 1}"
                name = HostId(f"storm{lane}.{number}")
                try:
                    await client.join(JoinRequest(name, address, "ab" * 32, client.identity.public_key))
                    counts["joined"] += 1
                except CubecastError:
                    counts["refused"] += 1

    async with asyncio.TaskGroup() as storms, DirectoryOf(target) as watcher:
        for lane in range(LANES):
            storms.create_task(storm(lane))
        while loop.time() < ends_s:
            before_s = loop.time()
            await watcher.overview()
            slow += loop.time() - before_s > SLOW_S
            await asyncio.sleep(POLL_S)
    return Outcome(slow > 0, f"{counts}; {slow} answers to others took over {SLOW_S:g} s")


class DirectoryOf:
    """A client of the attacked super-node for the duration of a block."""

    def __init__(self, target: Target, token: str = "") -> None:
        self._client = DirectoryClient(target.supernode, token or target.token, lambda _: None)

    async def __aenter__(self) -> DirectoryClient:
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()


async def _publisher_is(target: Target, client: DirectoryClient, otherwise: str) -> Outcome:
    views = {view.channel: view.publisher for view in (await client.overview()).channels}
    lost = views.get(ChannelName(target.channel)) != target.victim
    return Outcome(lost, "the channel is no longer the publisher's" if lost else otherwise)
