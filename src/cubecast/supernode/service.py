"""What the API does: checks the permissions of every request, and passes it to the directory's engine."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from cubecast.addresses import canonical_address
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.directory.events import (
    Answer,
    AnswerRoutes,
    ChannelAnnounced,
    ChannelWithdrawn,
    HostJoined,
    HostLeft,
    HostRefreshed,
    HostSuspected,
    JobsReported,
    LeaseTick,
    LinksReported,
    RelocationWanted,
    RoutesWanted,
    SubscriptionReported,
    UnknownChannelRequested,
)
from cubecast.engine.protocol.http_bodies import (
    ChannelView,
    JoinAnswer,
    JoinRequest,
    Overview,
    Pushed,
    RefreshAnswer,
    RefreshRequest,
    RelocationAnswer,
    RelocationRequest,
    ResolveAnswer,
    RoutesAnswer,
    RoutesRequest,
)
from cubecast.engine.protocol.records import ChannelRecord, Tree
from cubecast.errors import ChannelUnknown, DirectoryError, LocalError, TokenError
from cubecast.names import check_name
from cubecast.overlay.cube import format_label
from cubecast.supernode.access.gate import Gate, RightEnded, SignedRequest
from cubecast.supernode.access.join_queue import JoinQueue
from cubecast.supernode.access.rights import HostRights
from cubecast.supernode.access.usage import Usage
from cubecast.supernode.clock import SupernodeClock
from cubecast.supernode.connections import Connections
from cubecast.supernode.dial_backs import DialBack, DialBacks
from cubecast.supernode.job_requests import HEX_32_BYTES, JobRequests
from cubecast.supernode.outbox import Outbox
from cubecast.supernode.reachability import Claim
from cubecast.supernode.runner import DirectoryRunner
from cubecast.supernode.store import Store
from cubecast.tokens.authority import Bearer, JoinRights
from cubecast.tokens.permission import Permission
from cubecast.tracing.writer import TraceWriter
from cubecast.types import ChannelName

LEASE_TICK_S = 0.5
"""Leases, jobs and trees are checked once in this time, s: a suspected host is then removed within 4 s."""
KEEPALIVE_S = 2.0
"""An empty line is pushed after this much silence, s, so that a host notices a super-node that has died."""
SLOTS_MAX = 1024
"""Maximum number of extensions a host may offer to run; a greater number counts as this one."""


class Service:
    """The super-node's state. Every method runs on the event loop, and none awaits in the middle of a change."""

    def __init__(
        self,
        engine: DirectoryEngine,
        store: Store,
        gate: Gate,
        clock: SupernodeClock,
        dial_back: DialBack | None = None,
        trace: TraceWriter | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Restores the stored state into the engine.

        Args:
            monotonic_s: a clock that never steps back, by which rates count.
            dial_back: finds out whether a host is at its address; without it every host counts as reachable.
            trace: where events and effects are written.
        """
        self.engine = engine
        self.usage = Usage(engine, monotonic_s)
        self._runner = DirectoryRunner(engine, store, clock, gate.names, self.usage.has_left, trace)
        self._handle = self._runner.handle
        self._outboxes = self._runner.outboxes
        self.broken = self._runner.broken
        """Gets the StoreError when the store fails; the caller that runs the super-node waits on it."""
        self._gate = gate
        self._rights = HostRights(gate, clock)
        self._clock = clock
        self.dial_backs = DialBacks(engine, self._handle, dial_back)
        self._joins = JoinQueue(monotonic_s)
        self.jobs = JobRequests(engine, self._handle, self.usage)
        self.stopping = asyncio.Event()
        self.connections = Connections()
        self.port = 0
        """The TCP port the API is served on."""

    async def expire_leases(self) -> None:
        """Makes the engine check its leases at intervals, until stopped."""
        while not self.stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), LEASE_TICK_S)
            with suppress(DirectoryError):  # `broken` has the reason
                self._handle(LeaseTick())
            self._runner.keep_time()
            with suppress(LocalError):  # the file cannot be read now; it is tried again
                self._gate.revocations.update()
            for bearer in self._rights.end_expired():
                self._expel(bearer)
            self.jobs.forget_ended()

    def person(self, token: str) -> JoinRights:
        """What a join token gives.

        Raises:
            TokenError: it is not a join token of this super-node, has expired, or is revoked.
        """
        return self._gate.person(token)

    def check_credential(self, token: str) -> None:
        """Checks a credential, before the body that a proof covers is read.

        Raises:
            TokenError: this super-node did not issue it.
        """
        self._gate.check_credential(token)

    def nonce(self) -> str:
        """The nonce for the next proofs."""
        return self._gate.nonce()

    def _expel(self, bearer: Bearer) -> None:
        if self._is_member(bearer):
            with suppress(DirectoryError):  # `broken` has the reason
                self._handle(HostLeft(bearer.host))

    def host(self, request: SignedRequest) -> Bearer:
        """The host that makes a request.

        Raises:
            TokenError: its credential or proof is not accepted, or its rights have ended.
            DirectoryError: the host has to join again.
        """
        try:
            bearer = self._gate.host(request)
        except RightEnded as error:
            self._rights.end(error.bearer)
            self._expel(error.bearer)
            raise
        if not self._is_member(bearer):
            raise DirectoryError(f"host {bearer.host} has not joined, or was silent too long; join again")
        self.usage.is_in(bearer.host, bearer.token_id)
        return bearer

    def _is_member(self, bearer: Bearer) -> bool:
        member = self.engine.members.get(bearer.host)
        return member is not None and member.record.key == bearer.key

    async def join(self, signed: SignedRequest, request: JoinRequest, origin: str) -> JoinAnswer:
        """Dials a host back, and seats it.

        Args:
            origin: the IP address that the request came from.

        Raises:
            TokenError: the token does not allow this name, or the proof is not by the key that joins.
            DirectoryError: the name, address, label or key cannot be accepted.
            QuotaExceeded: its token has as many hosts as it may have.
            DirectoryBusy: too many join.
        """
        check_name("host name", request.name)
        bearer = self._gate.joining(signed, request.name)
        if bearer.key != request.key:
            raise TokenError("the proof is not by the key that asks to join")
        address = canonical_address(request.address)
        if not HEX_32_BYTES.fullmatch(request.key) or not HEX_32_BYTES.fullmatch(request.fingerprint):
            raise DirectoryError("a join needs a SHA-256 fingerprint and an Ed25519 key, 64 hex digits each")
        self.usage.count_join(bearer)
        if not self._is_member(bearer):
            await self._joins.wait(bearer.token_id)
        claim = Claim(address, request.fingerprint, request.key)
        reachable = await self.dial_backs.joining(request.name, claim, origin)
        self.usage.check_hosts(bearer)  # again: others may have joined meanwhile
        self.usage.count_growth(bearer)
        self._handle(
            HostJoined(
                request.name,
                address,
                request.fingerprint,
                request.key,
                request.fan_out,
                request.label,
                reachable,
            )
        )
        self.dial_backs.heard(request.name, origin)
        self.usage.has_joined(bearer.host, bearer.token_id)
        return JoinAnswer(
            self.engine.placement(request.name),
            self._credential(bearer),
            self._gate.public_key,
            self._clock.now_s(),
            self._gate.revocations.number,
        )

    def _credential(self, bearer: Bearer) -> str:
        return self._rights.credential(bearer, (job.source for job in self.engine.jobs.of(bearer.host)))

    def refresh(self, bearer: Bearer, request: RefreshRequest, origin: str) -> RefreshAnswer:
        """Renews a lease and handles a host's reports; only of its own subscriptions to channels that it may receive.

        Args:
            origin: the IP address that the request came from.

        Raises:
            DirectoryError: the host has to join again.
        """
        self._handle(HostRefreshed(bearer.host))
        self.dial_backs.heard(bearer.host, origin)
        permitted = (each for each in request.subscriptions if self._may_subscribe(bearer, each.channel))
        accepted, refused = self.usage.accepted(bearer, tuple(permitted))
        for record in accepted:
            self._handle(SubscriptionReported(record))
        for suspect in request.suspects:
            self._handle(HostSuspected(suspect, bearer.host))
        self._handle(LinksReported(bearer.host, request.links_ms))
        self._handle(JobsReported(bearer.host, min(SLOTS_MAX, request.slots), request.jobs))
        version, channels = self.engine.placement(bearer.host).version, self.engine.channels_of(bearer.host)
        ended = self._gate.revocations.since(request.ended)
        return RefreshAnswer(self._credential(bearer), version, channels, self._clock.now_s(), ended, refused)

    def relocate(self, bearer: Bearer, request: RelocationRequest) -> RelocationAnswer:
        """Moves a subscriber whose bound no path keeps to another seat, if that helps it and harms no other.

        Raises:
            TokenError: the host may not subscribe to the channel.
            DirectoryError: the host has to join again.
        """
        if not bearer.permission.may("subscribe", request.channel):
            raise TokenError(f"this token does not allow subscribing to {request.channel!r}")
        effects = self._handle(RelocationWanted(bearer.host, request.channel, request.bound_ms))
        verdicts = [effect.verdict for effect in effects if isinstance(effect, Answer)]
        return RelocationAnswer(verdicts[0])

    def find_routes(self, bearer: Bearer, request: RoutesRequest) -> RoutesAnswer:
        """Finds ways to a channel over hosts that need not carry it yet, and has more links measured.

        Raises:
            TokenError: the host may not subscribe to the channel.
            DirectoryError: the host has to join again.
        """
        self._check_may_subscribe(bearer, request.channel)
        effects = self._handle(RoutesWanted(bearer.host, request.channel, request.links_ms))
        return next(effect.answer for effect in effects if isinstance(effect, AnswerRoutes))

    def leave(self, bearer: Bearer) -> None:
        """Removes a host at its own request."""
        self._handle(HostLeft(bearer.host))

    def announce(
        self, bearer: Bearer, channel: ChannelName, tree: Tree = Tree.HYBRID, publication: int = 0
    ) -> ChannelRecord:
        """Adds a channel and returns its record.

        Args:
            publication: as ChannelAnnounced has it.

        Raises:
            TokenError: the host may not publish it.
            DirectoryError: the name is taken or malformed.
            QuotaExceeded: its token publishes as many channels as it may.
        """
        check_name("channel name", channel)
        may = bearer.permission.may("publish", channel) or self.engine.jobs.derives(bearer.host, channel)
        if not may:
            raise TokenError(f"this token does not allow publishing {channel!r}")
        self.usage.check_channels(bearer, channel)
        self._handle(ChannelAnnounced(bearer.host, channel, tree, publication))
        return self.engine.channels[channel]

    def withdraw(self, bearer: Bearer, channel: ChannelName) -> None:
        """Removes a channel, if this host publishes it."""
        self._handle(ChannelWithdrawn(bearer.host, channel))

    def resolve(self, bearer: Bearer, channel: ChannelName) -> ResolveAnswer:
        """A channel's record, and hosts that may be parents.

        Raises:
            TokenError: the host may not subscribe to it.
            ChannelUnknown: it is not announced.
        """
        self._check_may_subscribe(bearer, channel)
        record = self.engine.channels.get(channel)
        if record is None:
            self._handle(UnknownChannelRequested(bearer.host, channel))
            may = bearer.permission.may
            raise ChannelUnknown(channel, tuple(c for c in self.engine.channels if may("subscribe", c)))
        proposals = self.engine.proposals(bearer.host, channel)
        return ResolveAnswer(record, proposals)

    def _check_may_subscribe(self, bearer: Bearer, channel: ChannelName) -> None:
        if not self._may_subscribe(bearer, channel):
            raise TokenError(f"this token does not allow subscribing to {channel!r}")

    def _may_subscribe(self, bearer: Bearer, channel: ChannelName) -> bool:
        return bearer.permission.may("subscribe", channel) or self.engine.jobs.needs(bearer.host, channel)

    def overview(self, permission: Permission) -> Overview:
        """The part of the directory that a join token allows to see."""
        subscriptions = [s for s in self.engine.subscriptions() if permission.may("subscribe", s.channel)]
        receiving = [s.channel for s in subscriptions if s.state == "receiving"]
        channels = tuple(
            ChannelView(c, r.publisher, format_label(self.engine.cube, r.seat), receiving.count(c))
            for c, r in sorted(self.engine.channels.items())
            if permission.may("subscribe", c)
        )
        hosts = tuple(m.record for _, m in sorted(self.engine.members.items()))
        return Overview(str(self.engine.cube), hosts, channels, tuple(subscriptions))

    async def pushes(self, bearer: Bearer) -> AsyncIterator[Pushed | None]:
        """Pushes to a host: its placement and jobs at once and after every change, advice, probes; None as a keep-alive.

        Ends when the host is removed, opens a newer stream, or the super-node stops.
        """
        outbox = self._outboxes[bearer.host] = Outbox()
        outbox.placed = True
        if self.engine.jobs.settled(self._clock.now_s()):
            outbox.jobs = self.engine.jobs.of(bearer.host)
        outbox.filled.set()
        try:
            while not self.stopping.is_set() and bearer.host in self.engine.members:
                if self._outboxes.get(bearer.host) is not outbox:
                    return  # a newer stream of the same host took over
                yield outbox.take(lambda: self.engine.placement(bearer.host))
                await self._filled_or_stopping(outbox.filled)
        finally:
            if self._outboxes.get(bearer.host) is outbox:
                del self._outboxes[bearer.host]

    async def _filled_or_stopping(self, filled: asyncio.Event) -> None:
        """Waits for the first of both, KEEPALIVE_S at most."""
        waits = [asyncio.ensure_future(filled.wait()), asyncio.ensure_future(self.stopping.wait())]
        try:
            await asyncio.wait(waits, timeout=KEEPALIVE_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
