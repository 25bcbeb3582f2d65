"""Laws of live relocation: seats stay one host's each, it helps whoever asks, and breaks nobody's kept bound."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubecast.engine.directory.delay_table import DelayTable
from cubecast.engine.directory.relocation import Form, Relocation, Seated
from cubecast.engine.host import effects as fx
from cubecast.engine.protocol.path import RELAY_MS
from cubecast.engine.protocol.records import Tree, Verdict
from cubecast.overlay.cube import Cube
from cubecast.overlay.routing import Policy, ranked_next_hops
from cubecast.types import HostId, Label
from tests.engine.in_memory import CHANNEL, Overlay, random_delays

HOSTS, SEEDS = 16, range(8)
SLOW_SEEDS = (3, 5)
"""With the first other parents suffice; with the second none do."""


def served(seed: int, form: Form, tree: Tree = Tree.CUBE) -> tuple[Overlay, list[fx.Admitted]]:
    """Everyone asks for a bound that the cube keeps for some only."""
    overlay = Overlay(random_delays(HOSTS, seed), Cube(2, 4), seed=seed, relocation=form)
    overlay.run(5.0)
    overlay.publish(0, tree=tree)
    rng = np.random.default_rng(seed)
    admitted = []
    for index in rng.permutation(np.arange(1, HOSTS)).tolist():
        outcome = overlay.subscribe(index, float(rng.uniform(40, 160)))
        if isinstance(outcome, fx.Admitted):
            admitted.append(outcome)
        assert seats_are_one_hosts_each(overlay)
    return overlay, admitted


def seats_are_one_hosts_each(overlay: Overlay) -> bool:
    seats = [member.record.seat for member in overlay.directory.members.values()]
    return len(set(seats)) == len(seats)


def seats(overlay: Overlay) -> dict[HostId, Label]:
    return {host: member.record.seat for host, member in overlay.directory.members.items()}


@pytest.mark.parametrize("form", [Form.BREADTH_FIRST, Form.PUBLISHED])
def test_more_subscribers_are_admitted_and_no_stream_is_interrupted(form: Form) -> None:
    with_it = without = moved = 0
    for seed in SEEDS:
        before = seats(Overlay(random_delays(HOSTS, seed), Cube(2, 4), seed=seed))
        overlay, admitted = served(seed, form)
        with_it += len(admitted)
        without += len(served(seed, Form.OFF)[1])
        moved += sum(before[host] != seat for host, seat in seats(overlay).items())
        overlay.run(3.0)
        assert not overlay.ended()
        for host in overlay.names:
            carries = overlay.engines[host].metrics(CHANNEL) is not None
            assert not carries or overlay.flows(host, CHANNEL)
    assert moved > 0
    assert with_it > without


def test_whoever_moves_is_told_and_so_is_everyone_beside_it() -> None:
    overlay, _ = served(3, Form.BREADTH_FIRST)
    overlay.run(1.0)
    for host, engine in overlay.engines.items():
        assert engine.placement == overlay.directory.placement(host)


def test_nobody_is_moved_for_a_tree_that_does_not_follow_the_cube_and_publishers_stay() -> None:
    start = Overlay(random_delays(HOSTS, 2), Cube(2, 4), seed=2)
    overlay, _ = served(2, Form.BREADTH_FIRST, Tree.HYBRID)
    assert seats(overlay) == seats(start)
    cube, _ = served(2, Form.BREADTH_FIRST)
    assert seats(cube)[cube.names[0]] == seats(start)[start.names[0]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.sampled_from([Form.BREADTH_FIRST, Form.PUBLISHED]))
def test_a_change_of_seats_helps_the_one_and_breaks_no_bound_of_another(seed: int, depth: int, form: Form) -> None:
    rng, cube = np.random.default_rng(seed), Cube(2, 4)
    delay_ms = random_delays(HOSTS, seed)
    names = [HostId(f"h{i}") for i in range(HOSTS)]
    surveys = DelayTable()
    for i, host in enumerate(names):
        surveys.report(host, {other: float(delay_ms[i, j]) for j, other in enumerate(names) if j != i}, 0.0)
    placed = {host: Label(int(label)) for host, label in zip(names, rng.permutation(HOSTS), strict=True)}
    publisher, second = names[0], names[2]

    def late_ms(host: HostId, where: dict[HostId, Label], publisher: HostId = publisher) -> float:
        """The greedy path, hop by hop, as hosts choose it."""
        on = {label: each for each, label in where.items()}
        at, late = where[host], 0.0
        while at != where[publisher]:
            here = at

            def cost_ms(label: Label, here: Label = here) -> float:
                return float(delay_ms[names.index(on[here]), names.index(on[label])])

            at = ranked_next_hops(Policy.GREEDY, cube, here, where[publisher], cost_ms, rng)[0]
            late += cost_ms(at) + RELAY_MS
        return late

    pairs = [(host, publisher) for host in names[2:]] + [(host, second) for host in names[1:] if host != second]
    bounds = {pair: float(rng.uniform(20, 300)) for pair in pairs}
    others = [Seated(*pair, ms, late_ms(pair[0], placed, pair[1]) <= ms) for pair, ms in bounds.items()]
    wish = Seated(names[1], publisher, 1.0, kept=False)
    partner = Relocation(surveys, form, depth).partner(cube, placed, {publisher, second}, wish, [wish, *others])
    if isinstance(partner, Verdict):
        assert partner is Verdict.STAYS
        return
    after = placed | {names[1]: placed[partner], partner: placed[names[1]]}
    assert partner not in (publisher, second)
    assert late_ms(names[1], after) < late_ms(names[1], placed)
    for each in others:
        assert not each.kept or late_ms(each.host, after, each.publisher) <= each.bound_ms


def test_a_delay_that_nobody_knows_is_measured_first() -> None:
    surveys = DelayTable()
    placed = {HostId("p"): Label(0), HostId("s"): Label(3), HostId("f"): Label(1)}
    wish = Seated(HostId("s"), HostId("p"), 1.0, kept=False)
    wanted = Relocation(surveys, Form.BREADTH_FIRST, 2).partner(Cube(2, 2), placed, {HostId("p")}, wish, [])
    assert wanted is Verdict.LATER
    (asked,) = surveys.probes(100.0, placed).items()
    assert {asked[0], *asked[1]} == {"p", "s"}


def kept_after_a_slowdown(form: Form) -> tuple[int, int]:
    """Of streams whose last link becomes slow, how many keep their bounds after a while; and all."""
    kept = total = 0
    for seed in SLOW_SEEDS:
        overlay = Overlay(random_delays(HOSTS, seed), Cube(2, 4), seed=seed, relocation=form)
        overlay.run(5.0)
        overlay.publish(0, tree=Tree.CUBE)
        bound_ms = 250.0
        for index in range(1, HOSTS):
            overlay.subscribe(index, bound_ms)
        for host in overlay.names[1::3]:
            slow = overlay.hosts[host].index
            for branch in overlay.engines[host].branches():
                if branch.upstream is not None:
                    above = overlay.hosts[branch.upstream].index
                    overlay.delay_ms[slow, above] = overlay.delay_ms[above, slow] = 400.0
        overlay.run(60.0)
        assert not overlay.ended()
        for branch in (b for e in overlay.engines.values() for b in e.branches()):
            if branch.contract is not None:
                total += 1
                kept += branch.contract.kept_by(branch.metrics)
    return kept, total


def test_a_stream_that_has_become_late_is_moved_while_it_flows() -> None:
    with_it, total = kept_after_a_slowdown(Form.BREADTH_FIRST)
    without, _ = kept_after_a_slowdown(Form.OFF)
    assert without < with_it
    assert with_it == total
