"""Multicast on the cube compared with paths walked hop by hop."""

from collections.abc import Callable
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.overlay.cube import Cube, label_count, neighbours
from cubecast.overlay.delays import full_delays
from cubecast.overlay.many_routes import Overlay, overlay
from cubecast.overlay.routing import Policy, route
from cubecast.overlay.trees.union import PathUnion, copies_sent, graft_union, greedy_union, split_union
from cubecast.types import Label
from tests.kernels import both_forms
from tests.strategies import cubes, some_delays

Case = tuple[Overlay, list[int], int]
Run = Callable[..., PathUnion]


@st.composite
def channels(draw: st.DrawFn) -> Case:
    """An overlay with one host a label, subscribers and a publisher."""
    shape = draw(cubes(64))
    labels = label_count(shape)
    delays = draw(some_delays(least=labels, most=labels))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    over = overlay(shape, rng.permutation(labels).astype(np.int32), delays)
    publisher, *subscribers = (int(x) for x in rng.permutation(labels)[: draw(st.integers(2, labels))])
    return over, subscribers, publisher


def link_ms(over: Overlay, a: int, b: int) -> float:
    return float(over.link_ms[a, neighbours(over.cube, a).index(Label(b))])


def greedy_path(over: Overlay, a: int, b: int) -> list[Label]:
    return route(Policy.GREEDY, over.cube, a, b, lambda x, y: link_ms(over, x, y), np.random.default_rng(0))


def length(over: Overlay, path: list[Label]) -> float:
    return sum(link_ms(over, a, b) for a, b in pairwise(path))


def feeds(over: Overlay, union: PathUnion) -> set[tuple[int, int]]:
    fed, number = np.nonzero(union.feeds)
    return {(int(over.neighbour[a, n]), int(a)) for a, n in zip(fed, number, strict=True)}


@both_forms(greedy_union)
@given(case=channels())
def test_greedy_is_the_union_of_greedy_paths_and_a_tree(run: Run, case: Case) -> None:
    over, subscribers, publisher = case
    union = run(over, np.array(subscribers), publisher, np.random.default_rng(0))
    paths = [greedy_path(over, s, publisher) for s in subscribers]
    assert feeds(over, union) == {(b, a) for path in paths for a, b in pairwise(path)}
    for s, path in zip(subscribers, paths, strict=True):
        assert union.delay_ms[s] == pytest.approx(length(over, path), rel=1e-4)
    assert (union.feeds.sum(axis=1) <= 1).all()
    senders, receivers = copies_sent(over, union)
    assert len(senders) == len(receivers) == len(feeds(over, union))


@both_forms(split_union)
@given(case=channels())
def test_split_prefers_subscribing_neighbours_that_reduce_the_delay(run: Run, case: Case) -> None:
    over, subscribers, publisher = case
    union = run(over, np.array(subscribers), publisher, np.random.default_rng(0))
    expected, used, done = {}, set(), {publisher}
    for s in subscribers:
        at, late = s, 0.0
        while at != publisher:
            step, best = greedy_path(over, at, publisher)[1], length(over, greedy_path(over, at, publisher))
            for neighbour in neighbours(over.cube, at):
                total = link_ms(over, at, neighbour) + length(over, greedy_path(over, neighbour, publisher))
                if neighbour in done and total < best - 1e-9:
                    step, best = neighbour, total
            late += link_ms(over, at, step)
            used.add((step, at))
            at = step
        expected[s] = late
        done.add(s)
    assert {s: float(union.delay_ms[s]) for s in subscribers} == pytest.approx(expected, rel=1e-4)
    assert feeds(over, union) == used


@both_forms(graft_union)
@given(case=channels())
def test_graft_is_a_tree_whose_delays_are_its_paths(run: Run, case: Case) -> None:
    over, subscribers, publisher = case
    union = run(over, np.array(subscribers), publisher, np.random.default_rng(0))
    edges = feeds(over, union)
    assert (union.feeds.sum(axis=1) <= 1).all()
    tree: nx.DiGraph[int] = nx.DiGraph()
    tree.add_node(publisher)
    tree.add_weighted_edges_from((a, b, link_ms(over, a, b)) for a, b in edges)
    assert nx.is_arborescence(tree)
    late = nx.single_source_dijkstra_path_length(tree, publisher)
    for s in subscribers:
        assert union.delay_ms[s] == pytest.approx(late[s], rel=1e-4)
    first = subscribers[0]
    if publisher not in neighbours(over.cube, first):
        assert union.delay_ms[first] <= length(over, greedy_path(over, first, publisher)) * 1.0001


def test_split_prefers_subscribing_neighbours_at_every_hop_of_a_path_however_long_it_is() -> None:
    """The path passes eight of nine labels; four of its hops lead to a neighbour nearer in delay than the greedy one."""
    path, links_ms = [8, 5, 4, 1, 7, 6, 3, 0], [100.0, 2.0, 2.0, 8.0, 2.0, 4.0, 3.0]
    known_ms = dict(zip(pairwise(path), links_ms, strict=True))
    known_ms |= {(6, 0): 10.0, (1, 0): 30.0, (2, 0): 3.0, (5, 2): 700.0, (8, 2): 30_000.0}
    matrix = np.full((9, 9), 100_000.0)
    for (a, b), ms in known_ms.items():
        matrix[a, b] = matrix[b, a] = ms
    over = overlay(Cube(3, 2), np.arange(9, dtype=np.int32), full_delays(matrix))
    union = split_union(over, np.arange(1, 9), 0, np.random.default_rng(0))
    assert union.delay_ms[8] == pytest.approx(sum(links_ms))
