"""Laws of path metrics and contracts that need no link; tests/engine/host/test_contract.py has those of links."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.types import HostId
from tests.wire_values import values

delays = st.floats(0, 1000)
paths = st.builds(
    PathMetrics,
    delay_ms=delays,
    spread_ms=delays,
    path=st.lists(st.sampled_from("abc").map(HostId), min_size=1, max_size=6).map(tuple),
    loss=st.floats(0, 1),
    rate_bps=st.floats(0, 1e9),
)
contracts = st.builds(Contract, bound_ms=delays, rate_bps=st.floats(0, 1e9), loss=st.floats(0, 1))


def test_depth_is_the_number_of_links_from_the_publisher() -> None:
    assert PathMetrics(0.0, 0.0, (HostId("p"),)).depth == 0
    assert PathMetrics(0.0, 0.0, (HostId("p"), HostId("a"), HostId("b"))).depth == 2


@given(paths, delays)
def test_a_contract_of_a_bound_alone_allows_any_rate_and_loss(metrics: PathMetrics, bound_ms: float) -> None:
    assert Contract(bound_ms).kept_by(metrics) == (metrics.delay_ms + metrics.spread_ms <= bound_ms)


@given(contracts, paths)
def test_a_path_keeps_its_counter_offer_which_is_the_contract_itself_if_the_path_keeps_that(
    contract: Contract, metrics: PathMetrics
) -> None:
    offer = contract.counter(metrics)
    assert offer.kept_by(metrics)
    assert (offer == contract) == contract.kept_by(metrics)


@given(delays, delays, st.floats(0, 1))
def test_a_contract_that_allows_any_loss_allows_any_loss_before_a_link(
    bound_ms: float, link_ms: float, link_loss: float
) -> None:
    assert Contract(bound_ms, loss=1.0).before(link_ms, link_loss).loss == 1.0


@given(values(Contract), st.floats(0, 1e7), st.floats(0, 1))
def test_what_is_left_of_a_contract_behind_any_link_is_one_that_can_be_sent(
    contract: Contract, link_ms: float, link_loss: float
) -> None:
    left = contract.before(link_ms, link_loss).before(link_ms, link_loss)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(left), type=Contract) == left


@given(values(Contract), values(PathMetrics))
def test_the_counter_offer_of_any_path_can_be_sent(contract: Contract, metrics: PathMetrics) -> None:
    offer = contract.counter(metrics)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(offer), type=Contract) == offer
