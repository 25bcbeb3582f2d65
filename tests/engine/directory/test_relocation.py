"""Properties of live relocation: every seat has one host, the host that asks is helped, and no kept bound is broken."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubecast.engine.directory import events as d
from cubecast.engine.directory.config import (
    DelayTableConfig,
    DirectoryConfig,
    RelocationConfig,
    RelocationForm,
)
from cubecast.engine.directory.cube.relocation import CubeSubscription, Relocation
from cubecast.engine.directory.delay_table import DelayTable
from cubecast.engine.host import effects as fx
from cubecast.engine.protocol.path import RELAY_MS
from cubecast.engine.protocol.records import SubscriptionRecord, Tree, Verdict
from cubecast.overlay.cube import Cube
from cubecast.overlay.routing import Policy, ranked_next_hops
from cubecast.simulation.shells.host import SimulatedHost
from cubecast.types import HostId, Label
from tests.engine.directory.test_directory import engine, joined
from tests.engine.in_memory import CHANNEL, Overlay, random_delays

HOSTS, SEEDS = 16, range(8)
SLOW_SEEDS = (3, 5)
"""With the first, other parents are enough to keep the bounds; with the second, none are."""


def with_form(form: RelocationForm) -> DirectoryConfig:
    return DirectoryConfig(relocation=RelocationConfig(form))


def served(seed: int, form: RelocationForm, tree: Tree = Tree.CUBE) -> tuple[Overlay, list[fx.Admitted]]:
    """Every host subscribes with a bound that the cube keeps for some hosts only."""
    overlay = Overlay(random_delays(HOSTS, seed), Cube(2, 4), seed=seed, directory_config=with_form(form))
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


@pytest.mark.parametrize("form", [RelocationForm.BREADTH_FIRST, RelocationForm.PUBLISHED])
def test_more_subscribers_are_admitted_and_no_stream_is_interrupted(form: RelocationForm) -> None:
    with_it = without = moved = 0
    for seed in SEEDS:
        before = seats(Overlay(random_delays(HOSTS, seed), Cube(2, 4), seed=seed))
        overlay, admitted = served(seed, form)
        with_it += len(admitted)
        without += len(served(seed, RelocationForm.OFF)[1])
        moved += sum(before[host] != seat for host, seat in seats(overlay).items())
        overlay.run(3.0)
        assert not overlay.ended()
        for host in overlay.names:
            carries = overlay.engines[host].metrics(CHANNEL) is not None
            assert not carries or overlay.flows(host, CHANNEL)
    assert moved > 0
    assert with_it > without


def test_a_host_that_moves_and_its_neighbours_are_sent_their_placements() -> None:
    overlay, _ = served(3, RelocationForm.BREADTH_FIRST)
    overlay.run(1.0)
    for host, host_engine in overlay.engines.items():
        assert host_engine.placement == overlay.directory.placement(host)


def test_no_host_is_moved_for_a_hybrid_tree_and_publishers_keep_their_seats() -> None:
    start = Overlay(random_delays(HOSTS, 2), Cube(2, 4), seed=2)
    overlay, _ = served(2, RelocationForm.BREADTH_FIRST, Tree.HYBRID)
    assert seats(overlay) == seats(start)
    cube, _ = served(2, RelocationForm.BREADTH_FIRST)
    assert seats(cube)[cube.names[0]] == seats(start)[start.names[0]]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(1, 4), st.sampled_from([RelocationForm.BREADTH_FIRST, RelocationForm.PUBLISHED])
)
def test_a_change_of_seats_helps_the_one_and_breaks_no_bound_of_another(
    seed: int, depth: int, form: RelocationForm
) -> None:
    rng, cube = np.random.default_rng(seed), Cube(2, 4)
    delay_ms = random_delays(HOSTS, seed)
    names = [HostId(f"h{i}") for i in range(HOSTS)]
    delay_table = DelayTable(DelayTableConfig())
    for i, host in enumerate(names):
        delay_table.report(host, {other: float(delay_ms[i, j]) for j, other in enumerate(names) if j != i}, 0.0)
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
    others = [CubeSubscription(*pair, ms, late_ms(pair[0], placed, pair[1]) <= ms) for pair, ms in bounds.items()]
    requested = CubeSubscription(names[1], publisher, 1.0, kept=False)
    partner = Relocation(delay_table, RelocationConfig(form, depth)).partner(
        cube, placed, {publisher, second}, requested, [requested, *others]
    )
    if isinstance(partner, Verdict):
        assert partner is Verdict.STAYS
        return
    after = placed | {names[1]: placed[partner], partner: placed[names[1]]}
    assert partner not in (publisher, second)
    assert late_ms(names[1], after) < late_ms(names[1], placed)
    for each in others:
        assert not each.kept or late_ms(each.host, after, each.publisher) <= each.bound_ms


@pytest.mark.parametrize(
    ("form", "partner"),
    [
        (RelocationForm.BREADTH_FIRST, "h110"),
        (RelocationForm.PUBLISHED, "h101"),
        (RelocationForm.OFF, Verdict.STAYS),
    ],
)
def test_each_form_chooses_the_partner_that_it_is_defined_by(form: RelocationForm, partner: HostId | Verdict) -> None:
    """No neighbour of the publisher is farther from it than the subscriber is.

    Of the hosts two hops away h110 is the farthest; beside the farthest neighbour h001, h101 is the farthest from that.
    """
    placed = {HostId(f"h{seat:03b}"): Label(seat) for seat in range(8)}
    to_publisher_ms = dict(zip(placed, (0.0, 30.0, 20.0, 40.0, 20.0, 40.0, 200.0, 50.0), strict=True))
    publisher, *_, subscriber = placed
    delay_table = DelayTable(DelayTableConfig())
    for host in placed:
        links_ms = {other: 10.0 if subscriber in (host, other) else 100.0 for other in placed}
        delay_table.report(host, {other: ms for other, ms in links_ms.items() if other not in (host, publisher)}, 0.0)
    delay_table.report(publisher, {other: ms for other, ms in to_publisher_ms.items() if ms}, 20.0)
    delay_table.report(HostId("h001"), {HostId("h011"): 90.0}, 20.0)
    requested = CubeSubscription(subscriber, publisher, 1.0, kept=False)
    relocation = Relocation(delay_table, RelocationConfig(form))
    assert relocation.partner(Cube(2, 3), placed, {publisher}, requested, []) == partner


def test_an_unknown_delay_to_the_publisher_is_measured_first() -> None:
    delay_table = DelayTable(DelayTableConfig())
    placed = {HostId("p"): Label(0), HostId("s"): Label(3), HostId("f"): Label(1)}
    requested = CubeSubscription(HostId("s"), HostId("p"), 1.0, kept=False)
    verdict = Relocation(delay_table, RelocationConfig()).partner(Cube(2, 2), placed, {HostId("p")}, requested, [])
    assert verdict is Verdict.LATER
    (request,) = delay_table.take_requests(100.0, placed).items()
    assert {request[0], *request[1]} == {"p", "s"}


def parents(overlay: Overlay, hosts: Sequence[HostId]) -> list[tuple[SimulatedHost, HostId]]:
    """Those of the hosts that have a parent, each with it."""
    found = ((overlay.hosts[host], overlay.engines[host].upstream(CHANNEL)) for host in hosts)
    return [(here, above) for here, above in found if above is not None]


def kept_after_a_slowdown(form: RelocationForm) -> tuple[int, int]:
    """How many streams whose last link becomes slow keep their bounds after a minute, and how many streams there are."""
    kept = total = 0
    for seed in SLOW_SEEDS:
        overlay = Overlay(random_delays(HOSTS, seed), Cube(2, 4), seed=seed, directory_config=with_form(form))
        overlay.run(5.0)
        overlay.publish(0, tree=Tree.CUBE)
        bound_ms = 250.0
        for index in range(1, HOSTS):
            overlay.subscribe(index, bound_ms)
        links = [(here.index, overlay.hosts[above].index) for here, above in parents(overlay, overlay.names[1::3])]
        for slower_ms in (
            100.0,
            200.0,
            300.0,
            400.0,
        ):  # at once, a parent that is silent for so long would count as dead
            for slow, above in links:
                overlay.delay_ms[slow, above] = overlay.delay_ms[above, slow] = slower_ms
            overlay.run(1.0)
        overlay.run(60.0)
        assert not overlay.ended()
        for branch in (b for e in overlay.engines.values() for b in e.branches()):
            if branch.contract is not None:
                total += 1
                kept += branch.contract.kept_by(branch.metrics)
    return kept, total


def test_a_stream_that_has_become_late_is_moved_while_it_flows() -> None:
    with_it, total = kept_after_a_slowdown(RelocationForm.BREADTH_FIRST)
    without, _ = kept_after_a_slowdown(RelocationForm.OFF)
    assert without < with_it
    assert with_it == total


@pytest.mark.parametrize("is_measured", [False, True])
def test_a_lease_tick_moves_a_late_subscriber_and_gives_no_answer_that_was_not_requested(is_measured: bool) -> None:
    directory = engine(Cube(2, 3))
    names = [HostId(f"h{seat:03b}") for seat in range(8)]
    publisher, subscriber = names[0], names[-1]
    for name in names:
        directory.handle(joined(name, name.removeprefix("h")), 0.0)
    directory.handle(d.ChannelAnnounced(publisher, CHANNEL, Tree.CUBE), 0.0)
    if is_measured:  # the subscriber is near the publisher, and all others are far from it
        for name in names:
            links_ms = {other: 10.0 if {name, other} == {publisher, subscriber} else 100.0 for other in names}
            directory.handle(d.LinksReported(name, {other: ms for other, ms in links_ms.items() if other != name}), 0.0)
    late = SubscriptionRecord(CHANNEL, subscriber, 50.0, "receiving", best_ms=300.0, path=(publisher, subscriber))
    directory.handle(d.SubscriptionReported(late), 0.0)
    effects = directory.handle(d.LeaseTick(), 1.0)
    assert any(isinstance(effect, d.SaveHost) and effect.record.host == subscriber for effect in effects) == is_measured
    assert not [effect for effect in effects if isinstance(effect, d.Answer)]


@pytest.mark.parametrize(("bound_ms", "moves"), [(16.0 + 1e-3, True), (16.0 - 1e-3, False)])
def test_every_relay_on_the_longer_path_of_the_host_that_swaps_its_seat_counts_against_its_bound(
    bound_ms: float, moves: bool
) -> None:
    """After the change it receives from the subscriber: 5 + 10 ms of links and two relays."""
    publisher, near, other, subscriber = map(HostId, ("p", "n", "o", "s"))
    placed = {publisher: Label(0), near: Label(1), other: Label(2), subscriber: Label(3)}
    delay_table = DelayTable(DelayTableConfig())
    delay_table.report(publisher, {near: 8.0, other: 4.0, subscriber: 5.0}, 0.0)
    delay_table.report(near, {subscriber: 10.0, other: 50.0}, 0.0)
    delay_table.report(other, {subscriber: 50.0}, 0.0)
    requested = CubeSubscription(subscriber, publisher, 6.0, kept=False)
    partner = Relocation(delay_table, RelocationConfig()).partner(
        Cube(2, 2), placed, {publisher}, requested, [CubeSubscription(near, publisher, bound_ms, kept=True)]
    )
    assert RELAY_MS == 0.5
    assert partner == (near if moves else Verdict.STAYS)
