"""Leases end when they should, whatever the clock does."""

from hypothesis import given
from hypothesis import strategies as st

from cubecast.engine.directory.cube.leases import Leases
from cubecast.types import HostId

HOSTS = st.sampled_from([HostId(name) for name in "abcd"])
STEPS = st.tuples(st.sampled_from(["renew", "shorten", "end"]), HOSTS, st.integers(0, 9))


@given(st.lists(STEPS, min_size=5, max_size=40))
def test_those_leases_have_expired_that_ended_before_even_if_the_clock_goes_back(
    steps: list[tuple[str, HostId, int]],
) -> None:
    leases, ends = Leases(), dict[HostId, float]()
    for kind, host, time in steps:
        if kind == "renew":
            leases.renew(host, time)
            ends[host] = time
        elif kind == "end":
            leases.end(host)
            ends.pop(host, None)
        elif host in ends:
            leases.shorten(host, time)
            ends[host] = min(ends[host], time)
        for now in range(11):
            assert leases.expired(now) == {each for each, until in ends.items() if until < now}
