"""The local subscribers of a simulated host: several of one channel share one subscription of the engine.

Same rules as cubecast.host.local.subscribers: the engine gets the strictest contract, and is asked for one subscriber
after the other, so that a refusal belongs to the subscriber that asked.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.engine import HostEngine
from cubecast.engine.protocol.path import Contract
from cubecast.simulation.shells.queue import EventQueue
from cubecast.types import ChannelName

Outcome = fx.Admitted | fx.Refused | fx.NotFound | fx.StreamEnded


@dataclass(slots=True, eq=False)
class LocalSubscriber:
    """One user of a channel at a host: a person, or a job that needs the channel as its source."""

    channel: ChannelName
    contract: Contract
    requests: int = 0
    """Number of its requests."""
    outcomes: list[Outcome] = field(default_factory=list)
    """Every decision and every end of the stream, in order."""

    @property
    def admitted(self) -> bool:
        """Whether the last outcome is an admission."""
        return bool(self.outcomes) and isinstance(self.outcomes[-1], fx.Admitted)

    @property
    def unanswered(self) -> bool:
        """Whether one of its requests has no decision yet."""
        return sum(not isinstance(each, fx.StreamEnded) for each in self.outcomes) < self.requests


class LocalSubscribers:
    """All local subscribers of one host."""

    def __init__(self, engine: HostEngine, queue: EventQueue, handle: Callable[[ev.Event], None]) -> None:
        """Without subscribers.

        Args:
            handle: gives the engine an event and performs its effects.
        """
        self._engine, self._queue, self._handle = engine, queue, handle
        self._subscribers: dict[ChannelName, list[LocalSubscriber]] = {}
        self._asking: dict[ChannelName, LocalSubscriber] = {}
        """The subscriber whose request the engine has yet to decide, by channel."""
        self._waiting: dict[ChannelName, list[LocalSubscriber]] = {}
        """Subscribers whose request is sent after that decision."""

    def ask(self, subscriber: LocalSubscriber) -> None:
        """Requests the channel for a subscriber; the decision is added to its outcomes."""
        subscriber.requests += 1
        subscribers = self._subscribers.setdefault(subscriber.channel, [])
        if subscriber not in subscribers:
            subscribers.append(subscriber)
        if self._asking.get(subscriber.channel, subscriber) is subscriber:
            self._request(subscriber)
        else:
            self._waiting.setdefault(subscriber.channel, []).append(subscriber)

    def release(self, subscriber: LocalSubscriber) -> None:
        """Ends a subscription; the engine's ends with the last one of a channel. A second call does nothing."""
        channel = subscriber.channel
        subscribers = self._subscribers.get(channel, [])
        if subscriber not in subscribers:
            return
        subscribers.remove(subscriber)
        if subscriber in self._waiting.get(channel, []):
            self._waiting[channel].remove(subscriber)
        if not subscribers:
            self._asking.pop(channel, None)
            self._handle(ev.UnsubscribeRequested(channel))

    def decided(self, outcome: Outcome) -> None:
        """Passes an outcome of the engine to the subscribers that it concerns."""
        subscribers = self._subscribers.get(outcome.channel, [])
        if isinstance(outcome, fx.StreamEnded):
            asking = self._asking.get(outcome.channel)
            for each in [each for each in subscribers if each.admitted or each is asking]:
                each.outcomes.append(outcome)
                if each is not asking:
                    subscribers.remove(each)
            return
        asking = self._asking.pop(outcome.channel, None)
        for each in list(subscribers) if asking is None else [asking]:
            each.outcomes.append(outcome)
            if not each.admitted and each in subscribers:
                subscribers.remove(each)
        if self._waiting.get(outcome.channel):
            self._queue.after(0.0, self._request_next, outcome.channel)

    def _request(self, subscriber: LocalSubscriber) -> None:
        channel, contract = subscriber.channel, subscriber.contract
        held = [each.contract for each in self._subscribers[channel] if each is not subscriber and each.admitted]
        strictest = reduce(Contract.both, held, contract)
        metrics = self._engine.metrics(channel) if held else None
        if metrics is None:
            self._asking[channel] = subscriber
            self._handle(ev.SubscribeRequested(channel, strictest))
        elif strictest == reduce(Contract.both, held) and contract.kept_by(metrics):
            subscriber.outcomes.append(fx.Admitted(channel, contract, metrics))
        else:
            self._asking[channel] = subscriber
            self._handle(ev.SubscribeRequested(channel, strictest))

    def _request_next(self, channel: ChannelName) -> None:
        while self._waiting.get(channel) and channel not in self._asking:
            self._request(self._waiting[channel].pop(0))
