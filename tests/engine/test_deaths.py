"""A death at every step of every handshake: every subscriber gets media or an honest refusal, and nothing is left over.

A handshake is run once undisturbed, and its messages are counted. Then it is run again for each of them and each way to
disturb it there: a host at one end is killed, or the link between them closes. All runs of a handshake begin with copies
of one overlay, so they are the same up to that message.

A refusal is honest if it has a reason, and no host that is left could serve the subscriber within its bound. Under the
cube and graft trees only neighbours in the cube serve, so no host is full there.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pytest

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.protocol import messages as m
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import Tree
from cubecast.overlay.region import live_region
from cubecast.types import Floats, HostId
from tests.engine.disturbed import Disturbed, How, Step
from tests.engine.exact import UNCLEAR, exact_ms
from tests.engine.in_memory import CHANNEL, Overlay, random_delays

WITHIN_S = 25.0
"""Longest time from the beginning of a handshake until the law holds, s."""
LOOK_S = 0.5
"""Period at which the law is checked, s."""
STEADY_LOOKS = 2
"""Number of looks in a row at which it must hold."""
GENEROUS_MS = 10_000.0
"""A bound that every path keeps."""
SETTLED_S = 30.0
"""Time until standbys are ready and no host wants to change its parent, s."""
PATHS = (m.PathRequest, m.PathOffer, m.PathRefusal, m.Cancel, m.Commit, m.Confirm, m.Attach)
ENDS = (m.Release, m.Leaving, m.Goodbye, m.Ended)
STANDBYS = (m.StandbyRequest, m.StandbyStatus)
ALL = (*PATHS, *ENDS, *STANDBYS)
"""All messages of handshakes."""
RENEWED = tuple(kind.__name__ for kind in STANDBYS)
"""Messages that are repeated while nothing changes: a repetition is not disturbed."""


@dataclass(frozen=True)
class Handshake:
    """An overlay, what begins the handshake in it, and how long its messages are counted."""

    overlay: Overlay
    subscribers: Sequence[int]
    """Numbers of the hosts with a subscriber, also of those that ask only when the handshake begins."""
    begin: Callable[[Overlay], None]
    counted_s: float = 3.0
    bound_ms: float = GENEROUS_MS
    kinds: tuple[type, ...] = (*PATHS, *ENDS)
    """The kinds of its messages."""

    def steps(self) -> list[Step]:
        """The messages of the handshake when nothing disturbs it."""
        overlay = deepcopy(self.overlay)
        counted = Disturbed(overlay, self.kinds)
        self.begin(overlay)
        overlay.run(self.counted_s)
        return counted.steps

    def wrong(self, number: int, how: How) -> list[str]:
        """What the law forbids and is so when all time is over, with one message disturbed."""
        overlay = deepcopy(self.overlay)
        disturbed = Disturbed(overlay, self.kinds, number, how)
        self.begin(overlay)
        steady = 0
        found: list[str] = []
        for _ in range(round(WITHIN_S / LOOK_S)):
            overlay.run(LOOK_S)
            found = [line for host in overlay.living() for line in left_over(overlay, host)]
            for host in (overlay.names[index] for index in self.subscribers):
                if host not in overlay.dead:
                    found += unserved(overlay, host, self.bound_ms)
            steady = 0 if found or len(disturbed.steps) <= number else steady + 1
            if steady == STEADY_LOOKS:
                return []
        return found or ["it did not last"]


def unserved(overlay: Overlay, host: HostId, bound_ms: float) -> Iterator[str]:
    """Whether a subscriber has neither media nor an honest refusal."""
    here = overlay.hosts[host]
    receives = any(branch.contract is not None for branch in here.engine.branches())
    if receives and not (overlay.flows(host, CHANNEL) and is_fed(overlay, host)):
        yield f"{host} was admitted and gets no media"
    match here.outcomes[-1] if here.outcomes else None:
        case None:
            yield f"{host} has no decision"
        case fx.Admitted():
            if not receives:
                yield f"{host} was admitted and has no subscription"
        case outcome:
            if not isinstance(outcome, fx.NotFound) and not outcome.reason:
                yield f"{host} got {outcome}, without a reason"
            least_ms = exact_ms(overlay, host)
            if least_ms is not None and least_ms <= bound_ms * (1 - UNCLEAR):
                yield f"{host} got {outcome}, and a bound of {least_ms:.0f} ms could be kept"


def is_fed(overlay: Overlay, host: HostId) -> bool:
    """Whether living parents lead from a host to the publisher."""
    for _ in overlay.names:
        engine = overlay.engines[host]
        if host in overlay.dead or engine.publishes(CHANNEL):
            return host not in overlay.dead
        parent = engine.upstream(CHANNEL)
        if parent is None:
            return False
        host = parent
    return False


def left_over(overlay: Overlay, host: HostId) -> Iterator[str]:
    """What a host still holds of handshakes that are over."""
    steps = overlay.engines[host]._searches.steps
    for search in (*steps.searches.values(), *steps.asked.values()):
        yield f"{host} still has a search {search.purpose.name} of {search.requester} in {search.phase.name}"
    for branch in overlay.engines[host].branches():
        for child in branch.below.children:
            if child in overlay.dead or overlay.engines[child].upstream(CHANNEL) != host:
                yield f"{host} still has a slot for {child}"
        for child in branch.standby.children:
            if child in overlay.dead:
                yield f"{host} is still standby for {child}"
        if branch.parent.former is not None or branch.standby.host in overlay.dead:
            yield f"{host} still has the former parent {branch.parent.former} or the dead standby {branch.standby.host}"
        if branch.seqnos.hold:
            yield f"{host} still holds sequence numbers back"
        if not branch.publishes and branch.contract is None and not branch.below.children:
            yield f"{host} carries the channel for nobody"
    if overlay.sessions(host) - {overlay.engines[host].upstream(CHANNEL)}:
        yield f"{host} still has sessions to {overlay.sessions(host)}"


# ---------------------------------------------------------------------- handshakes


def ready(hosts: int, seed: int, fan_out: int, delay_ms: Floats | None = None, tree: Tree = Tree.HYBRID) -> Overlay:
    """An overlay in which host 0 publishes."""
    delays = random_delays(hosts, seed) if delay_ms is None else delay_ms
    overlay = Overlay(delays, live_region(hosts), seed=seed, fan_out=fan_out, reserve={})
    overlay.run(5)
    overlay.publish(0, tree=tree)
    overlay.run(1)
    return overlay


def admit(overlay: Overlay, *subscribers: int, bound_ms: float = GENEROUS_MS) -> None:
    for index in subscribers:
        assert isinstance(overlay.subscribe(index, bound_ms), fx.Admitted)


def ask(*subscribers: int, bound_ms: float = GENEROUS_MS) -> Callable[[Overlay], None]:
    def begin(overlay: Overlay) -> None:
        for index in subscribers:
            overlay.handle(overlay.names[index], ev.SubscribeRequested(CHANNEL, Contract(bound_ms)))

    return begin


def relays(overlay: Overlay) -> list[HostId]:
    """Hosts between the publisher and others, those with most children first."""
    children = {host: sum(len(b.below.children) for b in engine.branches()) for host, engine in overlay.engines.items()}
    return sorted((host for host in overlay.names[1:] if children[host]), key=lambda host: -children[host])


def hybrid() -> Handshake:
    """Four subscribers come at once, more than the publisher feeds: some are refused, and served by others."""
    return Handshake(ready(6, 5, fan_out=2), range(1, 5), ask(1, 2, 3, 4))


def cube() -> Handshake:
    """A subscriber comes over several hops of the cube."""
    overlay = ready(10, 6, fan_out=8, tree=Tree.CUBE)
    return Handshake(overlay, (3, 8), ask(8, 3), counted_s=2.0)


def one_hop() -> Handshake:
    """A subscriber whose only next hop is the publisher."""
    return Handshake(ready(10, 3, fan_out=8, tree=Tree.CUBE), (7,), ask(7), counted_s=2.0)


def graft() -> Handshake:
    """Two subscribers come to a tree to which neighbours are grafted."""
    overlay = ready(10, 4, fan_out=8, tree=Tree.GRAFT)
    admit(overlay, 1, 2)
    return Handshake(overlay, (1, 2, 6, 8), ask(6, 8))


def over_relays() -> Floats:
    """Delays in which host 1 is near the publisher only by way of host 3 or 5, and host 6 only by way of host 1."""
    delay_ms = np.full((8, 8), 150.0)
    delay_ms[6, :] = delay_ms[:, 6] = 200.0
    for a, b, near_ms in ((0, 3, 9.0), (3, 1, 9.0), (0, 5, 12.0), (5, 1, 12.0), (1, 6, 9.0)):
        delay_ms[a, b] = delay_ms[b, a] = near_ms
    np.fill_diagonal(delay_ms, 0)
    return delay_ms


def routes() -> Handshake:
    """A subscriber comes over an idle host, since its link to the publisher is too slow; another idle host is left."""
    overlay = ready(8, 5, fan_out=3, delay_ms=over_relays())
    return Handshake(overlay, (1,), ask(1, bound_ms=60.0), bound_ms=60.0)


def tighter(seed: int = 5) -> Handshake:
    """A host that feeds another one gets a second subscriber, with a tighter bound, so it changes its parent."""
    overlay = ready(8, seed, fan_out=3, delay_ms=over_relays())
    admit(overlay, 1, 6)
    return Handshake(overlay, (1, 6), ask(1, bound_ms=60.0), bound_ms=60.0)


def elsewhere() -> Handshake:
    """The same at other seats, where the offer of the first route may be gone when it is accepted."""
    return tighter(seed=19)


def repair() -> Handshake:
    """A relay dies before its children have standbys."""
    overlay = ready(8, 2, fan_out=2)
    admit(overlay, *range(1, 7))
    return Handshake(overlay, range(1, 7), lambda each: each.crash(relays(each)[0]))


def standby() -> Handshake:
    """A relay dies whose children have standbys."""
    overlay = ready(8, 2, fan_out=2)
    admit(overlay, *range(1, 7))
    overlay.run(SETTLED_S)
    return Handshake(overlay, range(1, 7), lambda each: each.crash(relays(each)[0]), 2.0, kinds=ALL)


def agree() -> Handshake:
    """Hosts look for standbys."""
    overlay = ready(8, 2, fan_out=2)
    admit(overlay, *range(1, 7))
    return Handshake(overlay, range(1, 7), lambda _: None, counted_s=1.5, kinds=ALL)


def change() -> Handshake:
    """The link to a parent becomes slow, so its child moves to a better one."""
    overlay = ready(8, 6, fan_out=3)
    admit(overlay, *range(1, 7))
    overlay.run(SETTLED_S)

    def begin(each: Overlay) -> None:
        child = next(
            host for host in each.names[1:] if each.engines[host].upstream(CHANNEL) not in (None, each.names[0])
        )
        parent = each.engines[child].upstream(CHANNEL)
        assert parent is not None
        a, b = each.hosts[child].index, each.hosts[parent].index
        each.delay_ms[a, b] = each.delay_ms[b, a] = 150.0

    return Handshake(overlay, range(1, 7), begin)


def leave() -> Handshake:
    """A relay leaves, and its children look for other parents first."""
    overlay = ready(8, 2, fan_out=3)
    admit(overlay, *range(1, 7))
    overlay.run(3)
    return Handshake(overlay, range(1, 7), lambda each: each.leave(relays(each)[0]))


def finish() -> Handshake:
    """The publisher ends the channel, over relays, while another subscriber comes."""
    overlay = ready(5, 2, fan_out=2)
    admit(overlay, *range(1, 4))

    def begin(each: Overlay) -> None:
        each.handle(each.names[4], ev.SubscribeRequested(CHANNEL, Contract(GENEROUS_MS)))
        each.run(0.3)
        each.handle(each.names[0], ev.PublishFinished(CHANNEL))

    return Handshake(overlay, range(1, 5), begin, counted_s=2.0)


HANDSHAKES = (hybrid, cube, one_hop, graft, routes, tighter, elsewhere, repair, standby, agree, change, leave, finish)


def failures(handshake: Handshake, *, publisher: bool) -> list[str]:
    """All runs in which the law does not hold: the message, what happened to it, and what was wrong.

    Args:
        publisher: whether it is the publisher that dies; else other hosts do, or links close.
    """
    found = []
    steps = handshake.steps()
    assert steps, "there is no handshake"
    for number, step in enumerate(steps):
        if step in steps[:number] and step.kind in RENEWED:
            continue
        for how in How:
            if (step.killed(how) == handshake.overlay.names[0]) == publisher:
                wrong = handshake.wrong(number, how)
                found += [f"{number} {step}, {how.value}: {'; '.join(wrong)}"] * bool(wrong)
    return found


def test_the_handshakes_have_every_kind_of_message() -> None:
    seen = {step.kind for handshake in HANDSHAKES for step in handshake().steps()}
    assert seen == {kind.__name__ for kind in ALL}


@pytest.mark.parametrize("handshake", HANDSHAKES)
def test_a_death_at_any_step_leaves_each_subscriber_with_media_or_an_honest_refusal(
    handshake: Callable[[], Handshake],
) -> None:
    found = failures(handshake(), publisher=False)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("handshake", HANDSHAKES)
def test_the_publishers_death_at_any_step_leaves_each_subscriber_with_an_honest_refusal(
    handshake: Callable[[], Handshake],
) -> None:
    found = failures(handshake(), publisher=True)
    assert not found, "\n".join(found)
