"""What a refused subscriber reads."""

from cubecast.engine.host.effects import Refused
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.host.local.refusal import refusal
from cubecast.types import ChannelName, HostId

NEWS = ChannelName("news")
BEST = PathMetrics(40.0, 9.5, (HostId("p"), HostId("s")))


def test_the_counter_offer_comes_with_the_reason() -> None:
    error = refusal(Refused(NEWS, Contract(10.0), BEST, "r is full"))
    assert str(error) == "news: no path within 10 ms (r is full); 50 ms is possible now, ask with --bound 50ms"
    assert (error.bound_ms, error.best_path) == (49.5, ("p", "s"))


def test_without_a_reason_the_counter_offer_stands_alone() -> None:
    assert str(refusal(Refused(NEWS, Contract(10.0), BEST, ""))) == (
        "news: no path within 10 ms; 50 ms is possible now, ask with --bound 50ms"
    )


def test_without_any_path_the_reason_is_all_there_is() -> None:
    error = refusal(Refused(NEWS, Contract(10.0), None, "r is full"))
    assert str(error) == "news: no path to the publisher now (r is full); try again later"
    assert error.bound_ms is None
