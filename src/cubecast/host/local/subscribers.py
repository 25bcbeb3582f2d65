"""The local subscribers of a host: any number to a channel, with one contract between them and the engine, the strictest."""

import asyncio
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.records import Compliance
from cubecast.errors import ChannelUnknown, CubecastError
from cubecast.host.local.contract_monitor import ContractMonitor
from cubecast.host.local.subscription import LocalSubscriber, counter_offer
from cubecast.types import ChannelName

T = TypeVar("T")
Decision = fx.Admitted | fx.Refused | fx.NotFound | fx.StreamEnded


class LocalSubscribers:
    """Who receives what here. Each is asked for one after the other, so that a refusal is its own."""

    def __init__(
        self,
        handle: Callable[[ev.Event], None],
        metrics: Callable[[ChannelName], PathMetrics | None],
        failure: Callable[[ChannelName], CubecastError | None],
    ) -> None:
        """Nobody yet.

        Args:
            handle: gives the engine the wishes.
            reach: how a channel reaches this host now.
            failure: why a channel could not be resolved, if that is why.
        """
        self._handle, self._reach, self._failure = handle, metrics, failure
        self._of: dict[ChannelName, list[LocalSubscriber]] = {}
        self._contracts: dict[ChannelName, Contract] = {}
        """What the engine was asked for, by channel."""
        self._asking = WeakValueDictionary[ChannelName, asyncio.Lock]()
        self._told: dict[ChannelName, Compliance] = {}

    def count(self, channel: ChannelName) -> int:
        """Subscribers of a channel."""
        return len(self._of.get(channel, ()))

    async def admit(self, channel: ChannelName, contract: Contract) -> tuple[LocalSubscriber, fx.Admitted]:
        """Asks for a channel.

        Raises:
            ChannelUnknown, BoundRefused, TokenError, DirectoryError: as HostRuntime.subscribe.
        """
        lock = self._asking.get(channel) or asyncio.Lock()
        self._asking[channel] = lock
        loop = asyncio.get_running_loop()
        local = LocalSubscriber(loop.create_future(), loop.create_future(), ContractMonitor(contract))
        async with lock:
            before = self._contracts.get(channel)
            self._of.setdefault(channel, []).append(local)
            try:
                self._ask(channel, contract, before, local)
                terms = await local.admitted
            except BaseException:
                if before is not None:
                    self._contracts[channel] = before
                self.release(channel, local)
                raise
        return local, fx.Admitted(channel, contract, terms.metrics)

    def _ask(self, channel: ChannelName, contract: Contract, before: Contract | None, local: LocalSubscriber) -> None:
        metrics = None if before is None else self._reach(channel)
        if before is None or metrics is None:
            self._contracts[channel] = contract
            self._handle(ev.SubscribeRequested(channel, contract))
        elif not contract.kept_by(metrics):
            local.admitted.set_exception(counter_offer(fx.Refused(channel, contract, metrics, "")))
        elif (both := before.both(contract)) == before:
            local.admitted.set_result(fx.Admitted(channel, contract, metrics))
        else:
            self._contracts[channel] = both
            self._handle(ev.SubscribeRequested(channel, both))

    def release(self, channel: ChannelName, local: LocalSubscriber) -> None:
        """A subscriber is gone; with the last one the engine lets the channel go. Twice is as good as once."""
        here = self._of.get(channel, [])
        if local not in here:
            return
        self._tell(channel)
        here.remove(local)
        if here:
            return
        del self._of[channel]
        self._told.pop(channel, None)
        if self._contracts.pop(channel, None) is not None:
            self._handle(ev.UnsubscribeRequested(channel))

    def tell(self) -> None:
        """The engine reports how local contracts fare: of several on a channel, the one that was violated most."""
        for channel in self._of:
            self._tell(channel)

    def decided(self, effect: Decision) -> None:
        """Hands a decision of the engine to those that wait for it."""
        for local in list(self._of.get(effect.channel, ())):
            match effect:
                case fx.Admitted():
                    _resolve(local.admitted, effect)
                case fx.StreamEnded():
                    _resolve(local.ended, effect)
                case fx.NotFound(channel, known):
                    _fail(local.admitted, ChannelUnknown(channel, known))
                case fx.Refused(channel):
                    _fail(local.admitted, self._failure(channel) or counter_offer(effect))

    def _tell(self, channel: ChannelName) -> None:
        compliance = max((local.ledger.compliance for local in self._of[channel]), key=lambda each: each.violated_s)
        if compliance != self._told.get(channel, Compliance()):
            self._told[channel] = compliance
            self._handle(ev.ContractMeasured(channel, compliance))


def _resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[fx.Admitted], error: CubecastError) -> None:
    if not future.done():
        future.set_exception(error)
