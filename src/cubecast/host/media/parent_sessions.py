"""Pulls: the media sessions to a channel's parents. During a change of parents the new and the former one are open.

The frames of a pull arrive in the channel's origin. A change of parents opens the new pull on the same origin; moq moves
the media over without loss or duplicate once the new route is announced, and the former pull is closed after that. If a
standby session to the new parent is open, its bridge carries the media until a pull has been dialled.
"""

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

import moq

from cubecast.engine.protocol.records import HostRecord
from cubecast.host.media.channels import Channels, marked
from cubecast.host.media.sessions import DIAL_S, NOT_FOUND, Dialler, Hooks, SessionStats, reason_of, stats_of
from cubecast.host.media.standbys import Standby, StandbySessions
from cubecast.host.tasks import Tasks
from cubecast.types import ChannelName, HostId

MARK_S = 10.0
"""Longest wait for a new parent's mark, s; it may be long, since the former parent or a bridge still carries the media."""
PUSHED_S = 5.0
"""Longest wait for the session of a parent that cannot be dialled and opens it itself, s."""
SETTLE_S = 3.0
"""Time for which a bridge carries the media before a session is dialled in its place, and before each further attempt, s."""
SETTLE_TRIES = 10
"""Maximum number of attempts to dial that session; then the pull counts as failed."""


@dataclass(slots=True, eq=False)
class _Pull:
    """A media session to one of a channel's parents."""

    task: asyncio.Task[None]
    session: moq.Session | None = None
    ready: bool = False
    pushed: asyncio.Future[moq.Session] | None = None
    """Gets the session of a parent that cannot be dialled and opens it itself."""


class ParentSessions:
    """The pulls of one host; its tasks belong to the owner."""

    def __init__(
        self, channels: Channels, standbys: StandbySessions, client: Dialler, hooks: Hooks, tasks: Tasks
    ) -> None:
        self._channels = channels
        self._standbys = standbys
        self._client = client
        self._hooks = hooks
        self._tasks = tasks
        self._pulls: dict[ChannelName, dict[HostId, _Pull]] = {}

    def pull(self, channel: ChannelName, record: HostRecord, *, bridged: bool) -> None:
        """Opens a media session to a parent beside the channel's others; calls pulled or pull_failed.

        Args:
            bridged: use the standby session to that host, if there is one; else that is closed. Two bridges in a row
                may break a track.
        """
        if not bridged:
            self._standbys.close(channel, record.host)
        pulls = self._pulls.setdefault(channel, {})
        known = pulls.get(record.host)
        if known is None:
            pulls[record.host] = _Pull(self._tasks.create_task(self._run(channel, record)))
        elif known.ready:
            asyncio.get_running_loop().call_soon(self._hooks.pulled, channel, record.host)

    def stop(self, channel: ChannelName, host: HostId) -> None:
        """Closes the media session of a channel to a host."""
        pull = self._pulls.get(channel, {}).pop(host, None)
        if pull is not None:
            pull.task.cancel()

    def drop(self, channel: ChannelName) -> None:
        """Closes all pulls of a channel."""
        for host in list(self._pulls.get(channel, {})):
            self.stop(channel, host)
        self._pulls.pop(channel, None)

    def names(self) -> set[ChannelName]:
        """The channels that are pulled."""
        return set(self._pulls)

    def stats(self) -> dict[tuple[ChannelName, HostId], SessionStats]:
        """Statistics of every open pull."""
        return {
            (channel, host): stats_of(pull.session)
            for channel, pulls in self._pulls.items()
            for host, pull in pulls.items()
            if pull.session is not None
        }

    async def _run(self, channel: ChannelName, record: HostRecord) -> None:
        """Runs one pull from its opening to its end."""
        mine, reason = self._pulls[channel][record.host], "closed"
        standby = self._standbys.take(channel, record.host) if record.reachable else None
        try:
            async with AsyncExitStack() as stack:
                if not record.reachable:
                    mine.session = await self._awaited(mine)
                elif standby is None or not await self._bridged(stack, channel, record, standby, mine):
                    mine.session = (await self._dialled(stack, channel, record)).session
                if mine.session is not None:
                    await self._follow(channel, record.host, mine, mine.session)
        except TimeoutError:
            reason = "no answer"
        except (moq.Error, ValueError) as error:
            reason = reason_of(error)
        finally:
            if not record.reachable and mine.session is not None:
                mine.session.shutdown()
        pulls = self._pulls.get(channel, {})
        if pulls.get(record.host) is mine:
            del pulls[record.host]
            self._hooks.pull_failed(channel, record.host, reason)

    async def _dialled(self, stack: AsyncExitStack, channel: ChannelName, record: HostRecord) -> moq.Client:
        client = self._client(record, channel, moq.OriginProducer(), self._channels.origin(channel))
        async with asyncio.timeout(DIAL_S):
            await stack.enter_async_context(client)
        return client

    async def _awaited(self, mine: _Pull) -> moq.Session:
        """Waits for the session that the parent opens."""
        mine.pushed = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(PUSHED_S):
            return await mine.pushed

    async def accept(self, request: moq.Request, channel: ChannelName, host: HostId) -> None:
        """Serves the session that a parent opens which cannot be dialled, until it ends.

        Raises:
            moq.Error: the session broke while it was set up.
        """
        pull = self._pulls.get(channel, {}).get(host)
        if pull is None or pull.pushed is None or pull.pushed.done():
            await request.reject(NOT_FOUND)
            return
        request.set_publish(None)
        request.set_consume(self._channels.origin(channel))
        session = await request.accept()
        if pull.pushed.done():
            session.shutdown()
            return
        pull.pushed.set_result(session)
        try:
            await session.closed()
        finally:
            session.shutdown()

    async def _bridged(
        self, outer: AsyncExitStack, channel: ChannelName, record: HostRecord, standby: Standby, mine: _Pull
    ) -> bool:
        """Carries the media over a standby session until a session has been dialled; False if that fails."""
        session = standby.client.session
        assert session is not None, "it is open"
        async with AsyncExitStack() as stack:
            stack.push_async_exit(standby.client.__aexit__)
            origin = self._channels.origin(channel)
            closed = asyncio.ensure_future(session.closed())
            stack.push_async_callback(_done_with, closed)
            try:
                await stack.enter_async_context(self._standbys.bridge(channel, standby, origin))
            except (TimeoutError, moq.Error):
                return False
            mine.session, mine.ready = session, True
            self._hooks.pulled(channel, record.host)
            for _ in range(SETTLE_TRIES):
                await asyncio.wait((closed,), timeout=SETTLE_S)
                if closed.done():
                    return False
                with suppress(TimeoutError, moq.Error):
                    async with AsyncExitStack() as attempt:
                        client = await self._dialled(attempt, channel, record)
                        async with asyncio.timeout(MARK_S):
                            await marked(origin, record.host)
                        await outer.enter_async_context(attempt.pop_all())
                    mine.session = client.session
                    return True
        return False

    async def _follow(self, channel: ChannelName, host: HostId, pull: _Pull, session: moq.Session) -> None:
        """Calls pulled once the session has announced the channel, then waits for its end."""
        closed = asyncio.ensure_future(session.closed())
        announced = asyncio.ensure_future(marked(self._channels.origin(channel), host))
        try:
            await asyncio.wait((closed, announced), timeout=MARK_S, return_when=asyncio.FIRST_COMPLETED)
            if announced.done() and announced.exception() is None and not closed.done():
                pull.ready = True
                self._hooks.pulled(channel, host)
            await closed
        finally:
            await _done_with(closed, announced)


async def _done_with(*waiting: asyncio.Future[None]) -> None:
    """Cancels futures and waits for that."""
    for each in waiting:
        each.cancel()
        with suppress(asyncio.CancelledError, moq.Error):
            await each
