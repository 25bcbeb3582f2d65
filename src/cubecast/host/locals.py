"""The local subscribers of a host: any number to a channel, with one contract between them and the engine, the strictest."""

import asyncio
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from cubecast.engine import effects as fx
from cubecast.engine import events as ev
from cubecast.engine.reach import Contract, Reach
from cubecast.engine.records import Account
from cubecast.errors import ChannelUnknown, CubecastError
from cubecast.host.ledger import Ledger
from cubecast.host.subscription import Answers, counter_offer
from cubecast.types import ChannelName

T = TypeVar("T")
Decision = fx.Admitted | fx.Refused | fx.NotFound | fx.StreamEnded


class Locals:
    """Who receives what here. Each is asked for one after the other, so that a refusal is its own."""

    def __init__(
        self,
        handle: Callable[[ev.Event], None],
        reach: Callable[[ChannelName], Reach | None],
        failure: Callable[[ChannelName], CubecastError | None],
    ) -> None:
        """Nobody yet.

        Args:
            handle: gives the engine the wishes.
            reach: how a channel reaches this host now.
            failure: why a channel could not be resolved, if that is why.
        """
        self._handle, self._reach, self._failure = handle, reach, failure
        self._of: dict[ChannelName, list[Answers]] = {}
        self._contracts: dict[ChannelName, Contract] = {}
        """What the engine was asked for, by channel."""
        self._asking = WeakValueDictionary[ChannelName, asyncio.Lock]()
        self._told: dict[ChannelName, Account] = {}

    def count(self, channel: ChannelName) -> int:
        """Subscribers of a channel."""
        return len(self._of.get(channel, ()))

    async def admit(self, channel: ChannelName, contract: Contract) -> tuple[Answers, fx.Admitted]:
        """Asks for a channel.

        Raises:
            ChannelUnknown, BoundRefused, TokenError, DirectoryError: as HostRuntime.subscribe.
        """
        lock = self._asking.get(channel) or asyncio.Lock()
        self._asking[channel] = lock
        loop = asyncio.get_running_loop()
        local = Answers(loop.create_future(), loop.create_future(), Ledger(contract))
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
        return local, fx.Admitted(channel, contract, terms.reach)

    def _ask(self, channel: ChannelName, contract: Contract, before: Contract | None, local: Answers) -> None:
        reach = None if before is None else self._reach(channel)
        if before is None or reach is None:
            self._contracts[channel] = contract
            self._handle(ev.SubscribeRequested(channel, contract))
        elif not contract.kept_by(reach):
            local.admitted.set_exception(counter_offer(fx.Refused(channel, contract, reach, "")))
        elif (both := before.both(contract)) == before:
            local.admitted.set_result(fx.Admitted(channel, contract, reach))
        else:
            self._contracts[channel] = both
            self._handle(ev.SubscribeRequested(channel, both))

    def release(self, channel: ChannelName, local: Answers) -> None:
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
        account = max((local.ledger.account for local in self._of[channel]), key=lambda each: each.violated_s)
        if account != self._told.get(channel, Account()):
            self._told[channel] = account
            self._handle(ev.ContractMeasured(channel, account))


def _resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[fx.Admitted], error: CubecastError) -> None:
    if not future.done():
        future.set_exception(error)
