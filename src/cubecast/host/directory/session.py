"""A host's standing with the super-node: joined, its lease renewed, told of changes, its reports delivered.

Everything goes on while the super-node is away: reports wait, and what it would push comes when it is back.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Protocol

from cubecast.engine.host import events as ev
from cubecast.engine.protocol.http_bodies import JoinAnswer, JoinRequest, Pushed, RefreshRequest, RelocationRequest
from cubecast.engine.protocol.job_records import Job, JobReport
from cubecast.engine.protocol.records import SubscriptionRecord, Tree, Verdict
from cubecast.errors import ChannelUnknown, CubecastError, DirectoryError, DirectoryUnreachable, TokenError
from cubecast.host.config import HostConfig
from cubecast.host.directory.client import DirectoryClient
from cubecast.host.tasks import Tasks
from cubecast.types import ChannelName, HostId

REFRESH_S = 2.0
LEAVE_S = 1.0
FOLLOW_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
LEDGER_MAX = 1024


class JobRunner(Protocol):
    """What a host does for others (cubecast.host.derived.jobs)."""

    slots: int
    """Extensions at a time that this host is willing to run."""
    changed: Callable[[], None]
    """To be told when there is something new to report."""

    def want(self, jobs: tuple[Job, ...]) -> None:
        """Everything that this host is to make from now on."""

    def reports(self) -> tuple[JobReport, ...]:
        """How that fares."""


class DirectorySession:
    """Calls the super-node for one host; `start` begins its background work."""

    def __init__(
        self,
        config: HostConfig,
        client: DirectoryClient,
        tasks: Tasks,
        notify: Callable[[str], None],
        handle: Callable[[ev.Event], None],
        links_ms: Callable[[], dict[HostId, float]],
        work: JobRunner,
    ) -> None:
        """Nothing is sent yet.

        Args:
            handle: gives the engine what the super-node tells.
            links_ms: the delays to report.
            work: told what to make for others; how that fares is reported.
        """
        self._config = config
        self._client = client
        self._tasks = tasks
        self._notify = notify
        self._handle = handle
        self._links_ms = links_ms
        self._work = work
        work.changed = self._tell_soon
        self._address = self._fingerprint = ""
        self._joined = False
        self._published: dict[ChannelName, tuple[Tree, asyncio.Future[None]]] = {}
        self._failures: dict[ChannelName, CubecastError] = {}
        self._resolving: set[ChannelName] = set()
        self._ledger: dict[ChannelName, SubscriptionRecord] = {}
        self._suspects: set[HostId] = set()
        self._news = asyncio.Event()
        self._told = ""

    async def join(self, address: str, fingerprint: str) -> JoinAnswer:
        """Takes a seat.

        Raises:
            DirectoryError: the super-node refuses or does not answer.
            TokenError: the join token is not accepted.
        """
        self._address, self._fingerprint = address, fingerprint
        return await self._join()

    def start(self) -> list[asyncio.Task[None]]:
        """Follows what the super-node pushes, and renews the lease."""
        if self._work.slots:
            self._news.set()  # others may wait for that
        return [self._tasks.create_task(work) for work in (self._follow(), self._refresh())]

    def _tell_soon(self) -> None:
        self._news.set()

    async def leave(self) -> None:
        """Gives the seat back, if there is one; the lease ends it too. Owners of jobs hear first how those ended."""
        if self._joined:
            with suppress(DirectoryError, TokenError, TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    if reports := self._work.reports():
                        await self._client.refresh(self._config.name, RefreshRequest(jobs=reports))
                    await self._client.leave(self._config.name)

    # ------------------------------------------------------------------ what the engine asks

    def announce(self, channel: ChannelName, tree: Tree) -> None:
        """Publishes a channel, now and whenever the super-node has forgotten it; `announced` tells what came of it."""
        self._published[channel] = (tree, asyncio.get_running_loop().create_future())
        self._tasks.create_task(self._announce(channel))

    async def announced(self, channel: ChannelName) -> None:
        """Waits until the channel is announced.

        Raises:
            DirectoryError: the super-node refuses the channel.
            TokenError: the token does not allow it.
        """
        await self._published[channel][1]

    def forget(self, channel: ChannelName) -> None:
        """The channel is not to be announced again."""
        self._published.pop(channel, None)

    def withdraw(self, channel: ChannelName) -> None:
        """Takes a channel off the list."""
        self._tasks.create_task(self._withdraw(channel))

    def resolve(self, channel: ChannelName) -> None:
        """Asks for a channel; the engine hears the answer."""
        self._failures.pop(channel, None)
        self._tasks.create_task(self._resolve(channel))

    def relocate(self, channel: ChannelName, bound_ms: float) -> None:
        """Asks for a better seat; the engine hears the answer."""
        self._tasks.create_task(self._relocate(RelocationRequest(channel, bound_ms)))

    def failure(self, channel: ChannelName) -> CubecastError | None:
        """Why the channel could not be resolved, if that is why."""
        if channel in self._resolving:
            return DirectoryUnreachable(f"super-node {self._client.url} does not answer; try again later")
        return self._failures.pop(channel, None)

    def suspect(self, host: HostId) -> None:
        """Reports a silent neighbour."""
        self._suspects.add(host)
        self._news.set()

    def report(self, record: SubscriptionRecord) -> None:
        """Reports a line of the ledger; of each channel the latest counts."""
        if len(self._ledger) < LEDGER_MAX or record.channel in self._ledger:
            self._ledger[record.channel] = record
        self._news.set()

    # ------------------------------------------------------------------ inside

    async def _join(self) -> JoinAnswer:
        config = self._config
        label = "" if self._joined else config.label  # meanwhile it may be another host's
        key = self._client.identity.public_key.hex()
        request = JoinRequest(config.name, self._address, self._fingerprint, key, config.fan_out, label)
        answer = await self._client.join(request)
        self._joined = True
        self._handle(ev.Placed(answer.placement))
        if not answer.placement.record.reachable:
            self._notify(
                f"nobody can dial this host at {self._address}: a NAT or firewall lets nothing in. It takes part all the "
                "same; open that UDP port, or give another address with --advertise, to do without detours"
            )
        for channel in self._published:
            self._tasks.create_task(self._announce(channel))
        return answer

    async def _rejoin(self) -> None:
        try:
            await self._join()
            self._told = ""
            self._notify("joined the overlay again")
        except (DirectoryError, TokenError) as error:
            if str(error) != self._told:
                self._told = str(error)
                self._notify(f"cannot join again: {error}")

    async def _follow(self) -> None:
        failures = 0
        while True:
            try:
                async with aclosing(self._client.pushes(self._config.name)) as pushes:
                    async for pushed in pushes:
                        failures = 0
                        self._take(pushed)
            except DirectoryUnreachable as error:
                if failures == 0:
                    self._notify(f"{error}; running streams go on")
            except (DirectoryError, TokenError):
                await self._rejoin()
            await asyncio.sleep(FOLLOW_PAUSES_S[min(failures, len(FOLLOW_PAUSES_S) - 1)])
            failures += 1

    def _take(self, pushed: Pushed) -> None:
        if pushed.placement is not None:
            self._handle(ev.Placed(pushed.placement))
        for advice in pushed.advice:
            self._handle(ev.Advised(advice))
        if pushed.jobs is not None:
            self._work.want(pushed.jobs)
        if pushed.probes:
            self._handle(ev.ProbesWanted(pushed.probes))

    async def _refresh(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S):
                    await self._news.wait()
            self._news.clear()
            lines, self._ledger = self._ledger, {}
            suspects, self._suspects = self._suspects, set()
            try:
                request = RefreshRequest(
                    tuple(lines.values()),
                    tuple(sorted(suspects)),
                    self._links_ms(),
                    self._work.slots,
                    self._work.reports(),
                )
                answer = await self._client.refresh(self._config.name, request)
                for channel in self._published.keys() - set(answer.channels):
                    self._tasks.create_task(self._announce(channel))
            except DirectoryUnreachable:
                self._ledger = lines | self._ledger  # reported with the next refresh that arrives
                await asyncio.sleep(REFRESH_S)
            except (DirectoryError, TokenError):
                self._ledger = lines | self._ledger
                await self._rejoin()
                await asyncio.sleep(REFRESH_S)

    async def _resolve(self, channel: ChannelName) -> None:
        self._resolving.add(channel)
        event: ev.Event
        try:
            answer = await self._client.resolve(channel)
            event = ev.ChannelResolved(answer.channel, answer.grant, answer.proposals)
        except ChannelUnknown as error:
            event = ev.ChannelNotFound(channel, error.known)
        except (DirectoryError, TokenError) as error:
            self._failures[channel] = error
            event = ev.ResolveFailed(channel, str(error))
        finally:
            self._resolving.discard(channel)
        self._handle(event)

    async def _relocate(self, request: RelocationRequest) -> None:
        verdict = Verdict.STAYS
        with suppress(DirectoryError, TokenError):  # then it stays where it is
            verdict = (await self._client.relocate(self._config.name, request)).verdict
        self._handle(ev.Relocated(request.channel, verdict))

    async def _announce(self, channel: ChannelName) -> None:
        if channel not in self._published:
            return
        tree, told = self._published[channel]
        try:
            await self._client.announce(channel, tree)
            if not told.done():
                told.set_result(None)
        except (DirectoryError, TokenError) as error:
            if told.done():
                self._notify(f"cannot announce {channel} again: {error}")
            else:
                told.set_exception(error)

    async def _withdraw(self, channel: ChannelName) -> None:
        with suppress(DirectoryError, TokenError):  # its lease ends it too
            await self._client.withdraw(channel)
