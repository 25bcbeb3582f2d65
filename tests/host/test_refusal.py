"""What a refused subscriber reads."""

from cubecast.engine.host.effects import Refused
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.host.local.refusal import refusal
from cubecast.types import ChannelName, HostId

NEWS = ChannelName("news")
BEST = PathMetrics(40.0, 9.5, (HostId("p"), HostId("s")))


def test_the_counter_offer_comes_with_what_stood_in_the_way() -> None:
    error = refusal(
        Refused(NEWS, Contract(10.0), BEST, "the fastest path, over s, takes 50 ms, 38 ms of it the link from s")
    )
    assert str(error) == (
        "news: no path within 10 ms: the fastest path, over s, takes 50 ms, 38 ms of it the link from s; "
        "ask with --bound 50ms"
    )
    assert (error.bound_ms, error.best_path) == (49.5, ("p", "s"))


def test_a_bound_below_a_millisecond_is_printed_as_it_was_asked_for() -> None:
    assert (
        str(refusal(Refused(NEWS, Contract(0.01), BEST, ""))) == "news: no path within 0.01 ms; ask with --bound 50ms"
    )


def test_each_term_that_is_not_kept_is_named_with_its_counter_offer() -> None:
    best = PathMetrics(40.0, 9.5, (HostId("p"), HostId("s")), loss=0.021, rate_bps=300_000.0)
    reason = "the best path, straight from p, takes 50 ms, and carries only 300 kbit/s, and loses 2.10%"
    assert str(refusal(Refused(NEWS, Contract(10.0, 900_000.0, 0.01), best, reason))) == (
        "news: no path within 10 ms, for 900 kbit/s, with at most 1.00% lost: the best path, straight from p, takes 50 ms, "
        "and carries only 300 kbit/s, and loses 2.10%; ask with --bound 50ms --rate 300000 --loss 2.1%"
    )


def test_without_any_path_the_reason_is_all_there_is() -> None:
    error = refusal(Refused(NEWS, Contract(10.0), None, "r would keep 9.0 ms but has no spare fan-out"))
    assert str(error) == (
        "news: no path to the publisher now: r would keep 9.0 ms but has no spare fan-out; try again later"
    )
    assert error.bound_ms is None
