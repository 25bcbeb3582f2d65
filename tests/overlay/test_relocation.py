"""Relocation compared with the slide's recursion, and with a search over a graph."""

from collections.abc import Callable

import networkx as nx
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cubecast.overlay.cube import Cube, label_count, neighbours
from cubecast.overlay.delays import delay_ms, full_delays
from cubecast.overlay.many_routes import neighbour_table
from cubecast.overlay.relocation import relocate_all, rings_around
from cubecast.types import Floats
from tests.kernels import both_forms
from tests.strategies import cubes

Relocate = Callable[..., tuple[np.ndarray, int]]


@st.composite
def seated_hosts(draw: st.DrawFn) -> tuple[Cube, np.ndarray, Floats, list[int]]:
    shape = draw(cubes(64))
    hosts = label_count(shape)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    raw = rng.uniform(1, 100, size=(hosts, hosts))
    matrix = (np.triu(raw, 1) + np.triu(raw, 1).T).astype(np.float32).astype(np.float64)
    chosen = rng.permutation(hosts)[: draw(st.integers(2, hosts))]
    return shape, rng.permutation(hosts).astype(np.int32), matrix, [int(host) for host in chosen]


def subscribe(
    seats: dict[int, int], shape: Cube, cost: Floats, s: int, p: int, d: int, depth: int, publisher: int
) -> None:
    """The slide's Subscribe(S, P, d); the publisher itself never moves."""
    if d == depth:
        return
    at = {label: host for host, label in seats.items()}
    around = [at[neighbour] for neighbour in neighbours(shape, seats[p])]
    around = [i for i in around if i not in (publisher, s)]
    if not around:
        return
    i = max(around, key=lambda host: cost[host, p])
    if cost[s, p] < cost[i, p]:
        seats[s], seats[i] = seats[i], seats[s]
    else:
        subscribe(seats, shape, cost, s, i, d + 1, depth, publisher)


@both_forms(relocate_all)
@given(case=seated_hosts(), depth=st.integers(1, 4))
def test_the_published_form_is_the_slides_recursion(
    run: Relocate, case: tuple[Cube, np.ndarray, Floats, list[int]], depth: int
) -> None:
    shape, host, matrix, (publisher, *subscribers) = case
    seats = {int(each): label for label, each in enumerate(host)}
    for subscriber in subscribers:
        subscribe(seats, shape, matrix, subscriber, publisher, 0, depth, publisher)
    delays = full_delays(matrix)
    after, _ = run(neighbour_table(shape), host, delays, np.array(subscribers), publisher, depth, False)
    assert {int(each): label for label, each in enumerate(after)} == seats


@both_forms(relocate_all)
@given(case=seated_hosts(), depth=st.integers(1, 4))
def test_breadth_first_swaps_with_the_farthest_of_the_nearest_ring_that_has_one(
    run: Relocate, case: tuple[Cube, np.ndarray, Floats, list[int]], depth: int
) -> None:
    shape, host, matrix, (publisher, *subscribers) = case
    graph = nx.Graph((a, b) for a in range(label_count(shape)) for b in neighbours(shape, a))
    seats = {int(each): label for label, each in enumerate(host)}
    far = nx.single_source_shortest_path_length(graph, seats[publisher])
    for s in subscribers:
        for ring in range(1, min(depth, far[seats[s]] - 1) + 1):
            there = [each for each, label in seats.items() if far[label] == ring]
            worst = max(there, key=lambda each: matrix[each, publisher])
            if matrix[worst, publisher] > matrix[s, publisher]:
                seats[s], seats[worst] = seats[worst], seats[s]
                break
    after, swaps = run(neighbour_table(shape), host, full_delays(matrix), np.array(subscribers), publisher, depth, True)
    assert sorted(after) == sorted(host)
    assert after[seats[publisher]] == publisher == host[seats[publisher]]
    assert {int(each): label for label, each in enumerate(after)} == seats
    assert (swaps > 0) == (after != host).any()


@both_forms(rings_around)
@given(shape=cubes(256), depth=st.integers(1, 5), data=st.data())
def test_rings_hold_the_labels_at_each_distance(
    run: Callable[..., tuple[np.ndarray, np.ndarray]], shape: Cube, depth: int, data: st.DataObject
) -> None:
    middle = data.draw(st.integers(0, label_count(shape) - 1))
    graph = nx.Graph((a, b) for a in range(label_count(shape)) for b in neighbours(shape, a))
    far = nx.single_source_shortest_path_length(graph, middle)
    rings, first = run(neighbour_table(shape), middle, depth)
    for ring in range(depth):
        held = rings[first[ring] : first[ring + 1]]
        assert sorted(held) == sorted(label for label, hops in far.items() if hops == ring + 1)


@given(case=seated_hosts())
def test_a_subscriber_farther_than_all_neighbours_of_the_publisher_stays(
    case: tuple[Cube, np.ndarray, Floats, list[int]],
) -> None:
    """The cost is the unicast latency, not the place in the cube."""
    shape, host, matrix, (publisher, *subscribers) = case
    farthest = max(subscribers, key=lambda each: delay_ms(full_delays(matrix), each, publisher))
    matrix = matrix.copy()
    matrix[farthest, :] = matrix[:, farthest] = 1000.0
    matrix[farthest, farthest] = 0.0
    after, swaps = relocate_all(
        neighbour_table(shape), host, full_delays(matrix), np.array([farthest]), publisher, 1, breadth_first=True
    )
    assert swaps == 0
    assert (after == host).all()
