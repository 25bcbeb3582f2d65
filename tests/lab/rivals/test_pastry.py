"""Pastry and Scribe."""

from collections.abc import Callable

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubecast.lab.compilation import compiled
from cubecast.lab.rivals.pastry import (
    FULL_PNS,
    NO_PNS,
    Pastry,
    fill_tables,
    pastry,
    pastry_next,
    pastry_routes,
    scribe_tree,
)
from cubecast.overlay.delays import Delays, delay_ms
from tests.kernels import both_forms
from tests.strategies import some_delays


def shared(tables: Pastry, a: int, b: int) -> int:
    """Length of the prefix two hosts share."""
    same = tables.digits[a] == tables.digits[b]
    return len(same) if same.all() else int(np.argmin(same))


@pytest.mark.parametrize("fill", [fill_tables, compiled(fill_tables)], ids=["plain", "compiled"])
@pytest.mark.parametrize("samples", [NO_PNS, 3, FULL_PNS])
@given(delays=some_delays(most=40), base=st.sampled_from([2, 4, 16]), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_entries_have_the_prefix_and_with_full_pns_are_the_nearest(
    fill: Callable[..., None], samples: int, delays: Delays, base: int, seed: int
) -> None:
    tables = pastry(delays, base, samples, np.random.default_rng(seed), fill)
    hosts, rows, _ = tables.table.shape
    assert len({tuple(digits) for digits in tables.digits}) == hosts
    for host in range(hosts):
        for row in range(rows):
            for digit in range(base):
                able = [
                    other
                    for other in range(hosts)
                    if shared(tables, host, other) == row and tables.digits[other, row] == digit
                ]
                entry = int(tables.table[host, row, digit])
                assert (entry in able) if able else (entry == -1)
                if able and samples == FULL_PNS:
                    nearest = min(delay_ms(delays, host, other) for other in able)
                    assert delay_ms(delays, host, entry) == pytest.approx(nearest, rel=1e-6)


@both_forms(pastry_routes)
@given(delays=some_delays(most=40), base=st.sampled_from([2, 4, 16]), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_every_hop_shares_a_longer_prefix(
    run: Callable[..., tuple[np.ndarray, np.ndarray]], delays: Delays, base: int, seed: int, data: st.DataObject
) -> None:
    tables = pastry(delays, base, NO_PNS, np.random.default_rng(seed))
    source, target = (data.draw(st.integers(0, len(delays.at) - 1)) for _ in range(2))
    late, hops = run(tables, delays, np.array([source]), np.array([target]))
    at, expected, count = source, 0.0, 0
    while at != target:
        there = pastry_next(tables, at, target)
        assert shared(tables, there, target) > shared(tables, at, target)
        expected, count, at = expected + delay_ms(delays, at, there), count + 1, there
    assert hops[0] == count
    assert late[0] == pytest.approx(expected)


@both_forms(scribe_tree)
@given(delays=some_delays(most=40), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_scribe_is_the_union_of_the_subscribers_routes(
    run: Callable[..., tuple[np.ndarray, np.ndarray]], delays: Delays, seed: int, data: st.DataObject
) -> None:
    hosts = len(delays.at)
    tables = pastry(delays, 4, FULL_PNS, np.random.default_rng(seed))
    group = data.draw(st.lists(st.integers(0, hosts - 1), min_size=2, unique=True))
    publisher, subscribers = group[0], group[1:]
    parent, late = run(tables, delays, np.array(subscribers), publisher)
    tree: nx.DiGraph[int] = nx.DiGraph()
    tree.add_node(publisher)
    for subscriber in subscribers:
        at = subscriber
        while at != publisher:
            there = pastry_next(tables, at, publisher)
            tree.add_edge(there, at, weight=delay_ms(delays, at, there))
            at = there
    assert nx.is_arborescence(tree)
    assert {(int(above), node) for node, above in enumerate(parent) if above >= 0} == set(tree.edges)
    expected = nx.single_source_dijkstra_path_length(tree, publisher)
    for node in range(hosts):
        assert late[node] == pytest.approx(expected.get(node, np.inf))
