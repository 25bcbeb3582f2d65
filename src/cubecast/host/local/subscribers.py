"""The local subscribers of a host.

A channel may have any number of them. The engine sees one subscription to each channel, with the strictest contract. Each
subscriber's own contract has its home in the monitor that judges it.
"""

import asyncio
from collections.abc import Callable
from functools import reduce
from typing import TypeVar
from weakref import WeakValueDictionary

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.records import Compliance
from cubecast.errors import ChannelUnknown, CubecastError, TokenError
from cubecast.host.local.contract_monitor import ContractMonitor
from cubecast.host.local.refusal import refusal
from cubecast.host.local.subscription import LocalSubscriber
from cubecast.types import ChannelName, HostId

T = TypeVar("T")
Decision = fx.Admitted | fx.Refused | fx.NotFound | fx.StreamEnded


class LocalSubscribers:
    """The local subscribers by channel. Those of a channel are admitted one at a time, so that each gets its own refusal."""

    def __init__(
        self,
        host: HostId,
        handle: Callable[[ev.Event], None],
        metrics: Callable[[ChannelName], PathMetrics | None],
        failure: Callable[[ChannelName], CubecastError | None],
    ) -> None:
        """No subscribers yet.

        Args:
            host: this one.
            handle: passes an event to the engine.
            metrics: the metrics of the path over which a channel reaches this host; None when it does not.
            failure: the error with which the super-node failed to resolve a channel; None when it did not fail.
        """
        self._host = host
        self._handle, self._metrics, self._failure = handle, metrics, failure
        self._subscribers: dict[ChannelName, list[LocalSubscriber]] = {}
        self._locks = WeakValueDictionary[ChannelName, asyncio.Lock]()
        """Held while a subscriber of the channel is being admitted."""
        self._reported: dict[ChannelName, Compliance] = {}
        """The compliance that the engine was given last, by channel."""

    def count(self, channel: ChannelName) -> int:
        """Number of local subscribers of a channel."""
        return len(self._subscribers.get(channel, ()))

    async def admit(self, channel: ChannelName, contract: Contract) -> tuple[LocalSubscriber, fx.Admitted]:
        """Asks the engine for a channel and waits for its decision.

        Raises:
            ChannelUnknown, BoundRefused, TokenError, DirectoryError: as HostRuntime.subscribe.
        """
        lock = self._locks.get(channel) or asyncio.Lock()
        self._locks[channel] = lock
        loop = asyncio.get_running_loop()
        local = LocalSubscriber(loop.create_future(), loop.create_future(), ContractMonitor(contract))
        async with lock:
            before = self._strictest(channel)
            self._subscribers.setdefault(channel, []).append(local)
            try:
                self._ask(channel, contract, before, local)
                terms = await local.admitted
            except BaseException:
                self.release(channel, local)
                raise
        return local, fx.Admitted(channel, contract, terms.metrics)

    def _ask(self, channel: ChannelName, contract: Contract, before: Contract | None, local: LocalSubscriber) -> None:
        metrics = None if before is None else self._metrics(channel)
        if before is None or metrics is None:
            self._handle(ev.SubscribeRequested(channel, contract))
        elif (both := before.both(contract)) == before and contract.kept_by(metrics):
            local.admitted.set_result(fx.Admitted(channel, contract, metrics))
        else:
            self._handle(ev.SubscribeRequested(channel, both))

    def release(self, channel: ChannelName, local: LocalSubscriber) -> None:
        """Removes a subscriber; the engine unsubscribes from the channel with the last. A second call has no effect."""
        here = self._subscribers.get(channel, [])
        if local not in here:
            return
        self._report_compliance(channel)
        here.remove(local)
        if here:
            return
        del self._subscribers[channel]
        self._reported.pop(channel, None)
        self._handle(ev.UnsubscribeRequested(channel))

    def _strictest(self, channel: ChannelName) -> Contract | None:
        """What keeps the contracts of all subscribers of a channel; None without any."""
        contracts = [local.monitor.contract for local in self._subscribers.get(channel, ())]
        return reduce(Contract.both, contracts) if contracts else None

    def report_compliance(self) -> None:
        """Reports the compliance of local contracts to the engine: of several on a channel, that of the one violated most."""
        for channel in self._subscribers:
            self._report_compliance(channel)

    def decided(self, effect: Decision) -> None:
        """Passes a decision of the engine to the subscribers that wait for it."""
        refused = None
        if isinstance(effect, fx.Refused):
            refused = self._failure(effect.channel) or refusal(effect)
        for local in list(self._subscribers.get(effect.channel, ())):
            match effect:
                case fx.Admitted():
                    _resolve(local.admitted, effect)
                case fx.StreamEnded():
                    _resolve(local.ended, effect)
                case fx.NotFound(channel, known):
                    _fail(local.admitted, ChannelUnknown(channel, known))
                case fx.Refused():
                    assert refused is not None, "it was made above"
                    _fail(local.admitted, refused)

    def end(self, reason: str) -> None:
        """Ends all subscriptions: this host may no longer take part."""
        for channel, here in list(self._subscribers.items()):
            for local in list(here):
                _fail(local.admitted, TokenError(reason))
                _resolve(local.ended, fx.StreamEnded(channel, finished=False, host=self._host, reason=reason))

    def _report_compliance(self, channel: ChannelName) -> None:
        local = max(self._subscribers[channel], key=lambda each: each.monitor.compliance.violated_s)
        compliance = local.monitor.compliance
        if compliance != self._reported.get(channel, Compliance()):
            self._reported[channel] = compliance
            self._handle(ev.ContractMeasured(channel, compliance))


def _resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[fx.Admitted], error: CubecastError) -> None:
    if not future.done():
        future.set_exception(error)
