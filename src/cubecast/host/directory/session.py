"""A host's session with the super-node: it joins, renews its lease, receives what is pushed and delivers reports.

While the super-node does not answer, streams continue. Reports are kept and sent with the next refresh that arrives;
pushes resume when the super-node is back.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing, suppress

from cubecast.engine.host import events as ev
from cubecast.engine.protocol.http_bodies import (
    LINES_MAX,
    SUSPECTS_MAX,
    EndedRight,
    JoinAnswer,
    JoinRequest,
    Pushed,
    RefreshRequest,
    RelocationRequest,
    RoutesRequest,
)
from cubecast.engine.protocol.records import ChannelRecord, SubscriptionRecord, Tree, Verdict
from cubecast.errors import (
    ChannelUnknown,
    CubecastError,
    DirectoryBusy,
    DirectoryError,
    DirectoryUnreachable,
    TokenError,
)
from cubecast.host.config import HostConfig
from cubecast.host.directory.client import DirectoryClient
from cubecast.host.directory.job_reports import JobReports, JobRunner
from cubecast.host.tasks import Tasks
from cubecast.types import ChannelName, HostId

REFRESH_S = 2.0
"""Longest time between two refreshes, and the pause after one that failed, s. A new report is sent at once."""
REFRESH_BUSY_S_MAX = 4.0
"""Longest pause after a refresh that the super-node was too busy for, s: shorter than its lease of 6 s."""
LEAVE_S = 1.0
"""Longest time that giving the seat back may take, s; without it the lease expires."""
FOLLOW_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
"""Pauses before the stream of pushes is opened again, s: one per failure in a row, the last one for all later ones."""
LEDGER_MAX = 1024
"""Maximum number of channels whose subscription records wait for the next refresh; the oldest are dropped."""
RECORDS_MAX = 1024
"""Maximum number of channels whose records are kept: bounds memory; one that was dropped is resolved again."""


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
        on_ended: Callable[[EndedRight], None],
        on_refused: Callable[[TokenError], None],
    ) -> None:
        """Nothing is sent yet.

        Args:
            on_ended: called when another host may no longer receive a channel, or take part.
            on_refused: called when this host may no longer take part.
            notify: shows the user one line.
            handle: passes an event to the engine.
            links_ms: returns the one-way delays of the links that are up and measured, ms.
            work: runs the jobs that the super-node assigns; its reports are sent with each refresh.
        """
        self._config = config
        self._client = client
        self._tasks = tasks
        self._notify = notify
        self._handle = handle
        self._links_ms = links_ms
        self._work = work
        work.changed = self._refresh_soon
        self._on_ended = on_ended
        self._on_refused = on_refused
        self._ended = 0
        """Number of the last ended right that this host knows."""
        self._address = self._fingerprint = ""
        self._joined = False
        self._published: dict[ChannelName, tuple[Tree, asyncio.Future[ChannelRecord]]] = {}
        self._failures: dict[ChannelName, CubecastError] = {}
        self._resolving: set[ChannelName] = set()
        self._announcing: set[asyncio.Future[ChannelRecord]] = set()
        """The publications whose announcement is under way: a second one would give them another number."""
        self._resolved: dict[ChannelName, ChannelRecord] = {}
        """The records of channels as they were resolved last, the most recent last."""
        self._ledger: dict[ChannelName, SubscriptionRecord] = {}
        self._suspects: dict[HostId, None] = {}
        """Hosts to report as silent, the most recent last."""
        self._job_reports = JobReports(work)
        self._refresh_due = asyncio.Event()
        self._rejoin_failure = ""
        """Why the last attempt to join again failed, as shown to the user."""
        self._busy = False
        """Whether the super-node was too busy for the last refresh, as shown to the user."""
        self._not_followed = ""
        """Why the super-node does not follow all subscriptions, as shown to the user."""

    async def join(self, address: str, fingerprint: str) -> JoinAnswer:
        """Requests a seat and waits for it.

        Raises:
            DirectoryError: the super-node refuses or does not answer.
            TokenError: the join token is not accepted.
        """
        self._address, self._fingerprint = address, fingerprint
        return await self._join()

    def start(self) -> list[asyncio.Task[None]]:
        """Starts the background tasks: one receives what the super-node pushes, one renews the lease."""
        if self._work.slots:
            self._refresh_soon()  # jobs may be waiting for a host that can run them
        return [self._tasks.create_task(work) for work in (self._follow(), self._refresh())]

    async def leave(self) -> None:
        """Gives the seat back, after the last reports on jobs for their owners.

        Failures are ignored: the lease expires without it.
        """
        if self._joined:
            with suppress(DirectoryError, TokenError, TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    if reports := self._job_reports.next():
                        await self._client.refresh(self._config.name, RefreshRequest(jobs=reports))
                    await self._client.leave(self._config.name)

    # ------------------------------------------------------------------ requests of the engine

    def announce(self, channel: ChannelName, tree: Tree) -> None:
        """Announces a channel, now and whenever the super-node no longer lists it; `announced` waits for the result."""
        self._published[channel] = (tree, asyncio.get_running_loop().create_future())
        self._tasks.create_task(self._announce(channel))

    async def announced(self, channel: ChannelName) -> ChannelRecord:
        """Waits until the super-node has accepted the channel, and returns its record.

        Raises:
            DirectoryError: the super-node refuses the channel.
            TokenError: the token does not allow it.
        """
        return await self._published[channel][1]

    async def record(self, channel: ChannelName, newer_than: int = -1) -> ChannelRecord:
        """The record of a channel; the super-node is asked unless a publication newer than this number is known.

        Raises:
            ChannelUnknown: no host announces it.
            DirectoryError: refused, or the super-node does not answer.
            TokenError: not allowed.
        """
        known = self._resolved.get(channel)
        if known is not None and known.publication > newer_than:
            return known
        return self._keep((await self._client.resolve(channel)).channel)

    def _keep(self, record: ChannelRecord) -> ChannelRecord:
        self._resolved.pop(record.channel, None)
        self._resolved[record.channel] = record
        if len(self._resolved) > RECORDS_MAX:
            del self._resolved[next(iter(self._resolved))]
        return record

    def forget(self, channel: ChannelName) -> None:
        """Stops announcing a channel; the super-node is not called."""
        self._published.pop(channel, None)

    def withdraw(self, channel: ChannelName) -> None:
        """Removes a channel from the super-node's list."""
        self._tasks.create_task(self._withdraw(channel))

    def resolve(self, channel: ChannelName) -> None:
        """Looks a channel up; the answer is passed to the engine as an event."""
        self._failures.pop(channel, None)
        self._tasks.create_task(self._resolve(channel))

    def relocate(self, channel: ChannelName, bound_ms: float) -> None:
        """Requests a seat nearer to the channel's publisher; the answer is passed to the engine as an event."""
        self._tasks.create_task(self._relocate(RelocationRequest(channel, bound_ms)))

    def find_routes(self, channel: ChannelName, links_ms: Mapping[HostId, float]) -> None:
        """Requests ways to a channel over hosts that need not carry it yet; the answer is passed on as an event."""
        self._tasks.create_task(self._find_routes(RoutesRequest(channel, dict(links_ms))))

    def failure(self, channel: ChannelName) -> CubecastError | None:
        """Why the channel could not be resolved; None if it was, or if that error was returned before."""
        if channel in self._resolving:
            return DirectoryUnreachable(f"super-node {self._client.url} does not answer; try again later")
        return self._failures.pop(channel, None)

    def suspect(self, host: HostId) -> None:
        """Reports a silent neighbour with the next refresh, unless it is heard from again before."""
        self._suspects.pop(host, None)
        self._suspects[host] = None
        if len(self._suspects) > SUSPECTS_MAX:
            del self._suspects[next(iter(self._suspects))]
        self._refresh_soon()

    def report(self, record: SubscriptionRecord) -> None:
        """Reports the state of a subscription with the next refresh; of each channel only the latest is kept."""
        self._ledger.pop(record.channel, None)
        self._ledger[record.channel] = record
        if len(self._ledger) > LEDGER_MAX:
            del self._ledger[next(iter(self._ledger))]
        self._refresh_soon()

    # ------------------------------------------------------------------ inside

    async def _join(self) -> JoinAnswer:
        config = self._config
        label = "" if self._joined else config.label  # another host may have taken it since the first join
        key = self._client.identity.public_key
        request = JoinRequest(config.name, self._address, self._fingerprint, key, config.fan_out, label)
        answer = await self._client.join(request)
        self._joined, self._ended = True, max(self._ended, answer.ended)
        self._handle(ev.Placed(answer.placement))
        if not answer.placement.record.reachable:
            self._notify(
                f"no other host can dial this host at {self._address}: a NAT or firewall blocks incoming packets. It "
                "takes part, but by detours; to avoid them open that UDP port, or give another address with --advertise"
            )
        for channel in self._published:
            self._tasks.create_task(self._announce(channel))
        return answer

    async def _rejoin(self) -> None:
        try:
            await self._join()
            self._rejoin_failure = ""
            self._notify("joined the overlay again")
        except (DirectoryError, TokenError) as error:
            if str(error) != self._rejoin_failure:
                self._rejoin_failure = str(error)
                self._notify(f"cannot join again: {error}")
            if isinstance(error, TokenError):
                self._on_refused(error)

    async def _follow(self) -> None:
        failures, reported = 0, False
        while True:
            try:
                async with aclosing(self._client.pushes(self._config.name)) as pushes:
                    async for pushed in pushes:
                        failures, reported = 0, False
                        self._on_pushed(pushed)
            except DirectoryUnreachable as error:
                if not reported:
                    self._notify(f"{error}; running streams go on")
                reported = True
            except (DirectoryError, TokenError):
                await self._rejoin()
            await asyncio.sleep(FOLLOW_PAUSES_S[min(failures, len(FOLLOW_PAUSES_S) - 1)])
            failures += 1

    def _on_pushed(self, pushed: Pushed) -> None:
        if pushed.placement is not None:
            self._handle(ev.Placed(pushed.placement))
        for advice in pushed.advice:
            self._handle(ev.Advised(advice))
        if pushed.jobs is not None:
            self._work.want(pushed.jobs)
        if pushed.probes:
            self._handle(ev.ProbesWanted(pushed.probes))

    def _refresh_soon(self) -> None:
        self._refresh_due.set()

    async def _refresh(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S):
                    await self._refresh_due.wait()
            self._refresh_due.clear()
            lines = dict(list(self._ledger.items())[:LINES_MAX])
            for channel in lines:
                del self._ledger[channel]
            links_ms = self._links_ms()
            silent = [host for host in self._suspects if host not in links_ms]  # links to the others are up again
            self._suspects = {}
            try:
                request = RefreshRequest(
                    tuple(lines.values()),
                    tuple(sorted(silent)),
                    links_ms,
                    self._work.slots,
                    self._job_reports.next(),
                    self._ended,
                )
                answer = await self._client.refresh(self._config.name, request)
                for right in answer.ended:
                    self._ended = max(self._ended, right.number)
                    self._on_ended(right)
                if self._ledger:
                    self._refresh_soon()  # with the records that were too many for this one
                for channel in self._published.keys() - set(answer.channels):
                    self._tasks.create_task(self._announce(channel))
                self._busy = False
                if answer.refused and not self._not_followed:
                    self._notify(f"super-node: {answer.refused}")
                self._not_followed = answer.refused
            except DirectoryUnreachable as error:
                self._keep_reports(silent, lines)
                await asyncio.sleep(self._pause_s(error))
            except (DirectoryError, TokenError):
                self._keep_reports(silent, lines)
                await self._rejoin()
                await asyncio.sleep(REFRESH_S)

    def _pause_s(self, error: DirectoryUnreachable) -> float:
        """The pause after a refresh that failed, s: as long as a busy super-node says, but within the lease."""
        if not isinstance(error, DirectoryBusy):
            return REFRESH_S
        if not self._busy:
            self._busy = True
            self._notify(f"{error}; meanwhile reports wait, and running streams go on")
        return max(REFRESH_S, min(error.wait_s, REFRESH_BUSY_S_MAX))

    def _keep_reports(self, suspects: Iterable[HostId], lines: dict[ChannelName, SubscriptionRecord]) -> None:
        """Keeps reports of a failed refresh for the next one: they are older than those that came since."""
        older = [host for host in suspects if host not in self._suspects]
        self._suspects = dict.fromkeys([*older, *self._suspects][-SUSPECTS_MAX:])
        self._ledger = dict(list((lines | self._ledger).items())[-LEDGER_MAX:])

    async def _resolve(self, channel: ChannelName) -> None:
        self._resolving.add(channel)
        event: ev.Event
        try:
            answer = await self._client.resolve(channel)
            event = ev.ChannelResolved(self._keep(answer.channel), answer.proposals)
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
        with suppress(DirectoryError, TokenError):  # the host keeps its seat
            verdict = (await self._client.relocate(self._config.name, request)).verdict
        self._handle(ev.Relocated(request.channel, verdict))

    async def _find_routes(self, request: RoutesRequest) -> None:
        answer = None
        with suppress(DirectoryError, TokenError):  # the search goes on with the hosts it knows
            answer = await self._client.find_routes(self._config.name, request)
        self._handle(ev.RoutesFound(request.channel, answer))

    async def _announce(self, channel: ChannelName) -> None:
        if channel not in self._published:
            return
        tree, announced = self._published[channel]
        if announced in self._announcing:
            return
        self._announcing.add(announced)
        try:
            accepted = announced.done() and not announced.cancelled() and announced.exception() is None
            record = await self._client.announce(channel, tree, announced.result().publication if accepted else 0)
            if not announced.done():
                announced.set_result(record)
        except (DirectoryError, TokenError) as error:
            if announced.done():
                self._notify(f"cannot announce {channel} again: {error}")
            else:
                announced.set_exception(error)
        finally:
            self._announcing.discard(announced)

    async def _withdraw(self, channel: ChannelName) -> None:
        with suppress(DirectoryError, TokenError):  # it is removed when the host's lease expires
            await self._client.withdraw(channel)
