"""What a host answers to a request of a host that may not receive the channel."""

import numpy as np
import pytest

from cubecast.engine.host.effects import Send
from cubecast.engine.host.engine import HostEngine
from cubecast.engine.host.events import RequestRejected
from cubecast.engine.protocol.messages import Attach, PathRefusal, PathRequest, StandbyRequest, StandbyStatus
from cubecast.engine.protocol.path import Contract
from cubecast.overlay.routing import Policy
from cubecast.types import ORIGIN, ChannelName, HostId

NEWS, REQUESTER, PARENT = ChannelName("news"), HostId("s"), HostId("p")


@pytest.mark.parametrize(
    "request_message",
    [
        PathRequest(7, NEWS, 1, ORIGIN, Contract(100.0), 5, (REQUESTER,)),
        Attach(7, NEWS, Contract(100.0), (REQUESTER,)),
    ],
)
def test_the_asker_gets_the_reason_and_no_tries_back(request_message: PathRequest | Attach) -> None:
    engine = HostEngine(HostId("r"), Policy.GREEDY, 8, np.random.default_rng(1))
    effects = engine.handle(RequestRejected(REQUESTER, request_message, "host s may not receive it"), 0.0)
    assert effects == [Send(REQUESTER, PathRefusal(7, NEWS, "host s may not receive it", 0))]


def test_a_standby_request_is_declined() -> None:
    engine = HostEngine(HostId("r"), Policy.GREEDY, 8, np.random.default_rng(1))
    request = StandbyRequest(NEWS, (REQUESTER,), PARENT)
    assert engine.handle(RequestRejected(REQUESTER, request, "host s may not receive it"), 0.0) == [
        Send(REQUESTER, StandbyStatus(NEWS, ready=False))
    ]
