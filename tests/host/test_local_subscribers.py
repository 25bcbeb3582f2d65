"""Local subscribers of a channel: each gets the decision, and the error, that is its own."""

import asyncio

import pytest

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.errors import CubecastError, TokenError
from cubecast.host.local.subscribers import LocalSubscribers
from cubecast.types import ChannelName, HostId

NEWS = ChannelName("news")
PATH = PathMetrics(50.0, 2.0, (HostId("p"), HostId("me")))


class Engine:
    """Admits the first request and refuses all others, because the channel could not be resolved again."""

    def __init__(self) -> None:
        self.local = LocalSubscribers(HostId("me"), self.handle, lambda _: PATH, self.failure)
        self.requests: list[Contract] = []
        self.failures: list[CubecastError] = []

    def handle(self, event: ev.Event) -> None:
        if isinstance(event, ev.SubscribeRequested):
            self.requests.append(event.contract)
            if len(self.requests) == 1:
                self.local.decided(fx.Admitted(NEWS, event.contract, PATH))
            else:
                self.failures = [TokenError("this token has expired")]
                self.local.decided(fx.Refused(NEWS, event.contract, None, "not resolved"))

    def failure(self, _: ChannelName) -> CubecastError | None:
        return self.failures.pop() if self.failures else None


async def test_the_error_of_a_request_reaches_the_subscriber_who_made_it() -> None:
    engine = Engine()
    first, _ = await engine.local.admit(NEWS, Contract(500.0))
    with pytest.raises(TokenError, match="expired"):
        await engine.local.admit(NEWS, Contract(10.0))
    assert engine.local.count(NEWS) == 1, "the first one is not disturbed"
    engine.local.release(NEWS, first)


async def test_a_weaker_contract_is_admitted_without_asking_and_a_stricter_one_asks_for_both() -> None:
    engine = Engine()
    await engine.local.admit(NEWS, Contract(500.0))
    _, terms = await engine.local.admit(NEWS, Contract(1000.0))
    assert terms.contract == Contract(1000.0)
    assert engine.requests == [Contract(500.0)]
    refused = asyncio.ensure_future(engine.local.admit(NEWS, Contract(10.0, loss=0.5)))
    with pytest.raises(TokenError):
        await refused
    assert engine.requests[1:] == [Contract(10.0, loss=0.5)]


async def test_what_a_subscriber_who_has_left_asked_for_binds_nobody_any_more() -> None:
    engine = Engine()
    strict, _ = await engine.local.admit(NEWS, Contract(500.0))
    await engine.local.admit(NEWS, Contract(1000.0))
    engine.local.release(NEWS, strict)
    with pytest.raises(TokenError):
        await engine.local.admit(NEWS, Contract(700.0))
    assert engine.requests == [Contract(500.0), Contract(700.0)]
