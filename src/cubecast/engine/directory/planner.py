"""Hybrid trees, live: the lab's tree (cubecast.overlay.trees.hybrid) planned over what hosts measure, carried out by advice.

For each channel the directory runs the survey that the lab runs; its questions are answered by the hosts' reports, and
asked of the hosts where nobody knows. The tree it returns is carried out move by move: a host is advised to change to
a parent once that one has a copy left and does not hang on the host itself. Hosts decide: they try the advice, keep
their bounds, and say what came of it. A plan that gains little is dropped, so trees do not flap.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cubecast.engine.directory.delay_table import UNREACHED_MS, DelayTable
from cubecast.errors import UsageError
from cubecast.overlay.trees.hybrid import Requirements, hybrid_tree
from cubecast.overlay.trees.measured import Survey
from cubecast.types import ChannelName, Floats, HostId, Ints

GROUP_MAX = 256
"""Larger groups are not planned: their hosts join as the directory proposes and improve by themselves."""
AGAIN_S = 15.0
"""A group that stays the same is planned again after so long."""
SETTLE_S = 2.0
"""A group that has changed is planned when it was the same for so long."""
SURVEY_S = 60.0
ADVICE_S = 9.0
"""Advice that a host has not followed by then is given up: a host that has just changed waits 5 s, and tries it for 3 s."""
MOVES_MIN, MOVES_SHARE = 2, 0.125
"""So many hosts, or this share of a group, move at a time: a move is a handshake or two, and hosts may share a machine."""
PLAN_S = 80.0
GAIN_MIN, GAIN_MIN_AGAIN = 0.03, 0.15
"""A plan whose mean delay is not smaller by this share is dropped; a group that was planned already is left alone unless
much is to be gained, for delays are never the same twice."""
QUESTIONS_MAX = 200
"""Questions of a survey answered at a time."""


@dataclass(frozen=True, slots=True)
class TreeMember:
    """What a plan needs to know of a host on a channel's tree.

    Attributes:
        parent: who feeds it now; None at the publisher.
        spare: copies it may still send, over all channels.
        slots: copies it may send for this channel.
        late_ms: what it was promised.
    """

    parent: HostId | None
    bound_ms: float
    slots: int
    spare: int
    late_ms: float = 0.0


Group = Mapping[HostId, TreeMember]
"""The hosts on a channel's tree, the publisher first."""


@dataclass(slots=True)
class _Channel:
    """One channel's plan: surveyed, then carried out, then at rest."""

    members: tuple[HostId, ...] = ()
    changed_at: float = -np.inf
    survey: Survey[Ints] | None = None
    pairs: list[tuple[HostId, HostId]] = field(default_factory=list)
    started_at: float = -np.inf
    target: dict[HostId, HostId] = field(default_factory=dict)
    planned_at: float = -np.inf
    advised: dict[HostId, tuple[HostId, float]] = field(default_factory=dict)
    refused: set[HostId] = field(default_factory=set)


class Planner:
    """Plans of all channels. The directory engine owns one."""

    def __init__(self, delay_table: DelayTable, rng: np.random.Generator) -> None:
        self._delay_table = delay_table
        self._rng = rng
        self._channels: dict[ChannelName, _Channel] = {}

    def forget(self, channel: ChannelName) -> None:
        """The channel is over."""
        self._channels.pop(channel, None)

    def advise(self, channel: ChannelName, group: Group, now: float) -> dict[HostId, HostId]:
        """The changes of parents that should be tried now: the new parent by host."""
        plan = self._channels.setdefault(channel, _Channel())
        members = tuple(group)
        if members != plan.members:
            plan.members, plan.changed_at, plan.survey, plan.target = members, now, None, {}
            plan.advised.clear()
        if not 2 < len(members) <= GROUP_MAX:
            return {}
        if plan.survey is None and not plan.target and now - plan.changed_at >= SETTLE_S:
            self._begin(plan, group, now)
        if plan.survey is not None:
            self._go_on(plan, group, now)
        return self._moves(plan, group, now) if plan.target else {}

    # ------------------------------------------------------------------ the survey

    def _begin(self, plan: _Channel, group: Group, now: float) -> None:
        if now - plan.planned_at < AGAIN_S and plan.planned_at > plan.changed_at:
            return
        required = Requirements(
            np.array([member.slots for member in group.values()], np.int64),
            np.ones(len(group)),
            np.array([member.bound_ms for member in group.values()]),
        )
        plan.survey, plan.started_at = hybrid_tree(required, np.random.default_rng(self._rng.integers(2**32))), now
        plan.pairs = []
        if self._answer(plan, group, None):
            plan.planned_at = now

    def _go_on(self, plan: _Channel, group: Group, now: float) -> None:
        """Answers the survey's questions as far as they are known; asks for the rest."""
        for _ in range(QUESTIONS_MAX):
            told = self._delay_table.delays_ms(plan.pairs, now)
            if told is None:
                if now - plan.started_at > SURVEY_S:
                    plan.survey, plan.planned_at = None, now
                return
            if self._answer(plan, group, told):
                plan.planned_at = now
                self._delay_table.drop_requests()
                return

    def _answer(self, plan: _Channel, group: Group, told: Floats | None) -> bool:
        """Gives the survey what it asked for; whether that was the last question."""
        assert plan.survey is not None, "the caller looked"
        try:
            pairs = plan.survey.send(told)  # type: ignore[arg-type]
        except UsageError:  # the fan-outs cannot serve everyone: nothing to plan
            plan.survey = None
        except StopIteration as end:
            plan.survey = None
            self._take(plan, group, end.value)
        else:
            plan.pairs = [(plan.members[a], plan.members[b]) for a, b in pairs.tolist()]
            return False
        return True

    def _take(self, plan: _Channel, group: Group, parents: Ints) -> None:
        """Takes a tree as the target, if it is worth the moves."""
        target = {plan.members[node]: plan.members[parents[node]] for node in range(1, len(parents))}
        told = [member.late_ms for member in group.values() if member.parent is not None]
        now_ms, then_ms = self._mean_ms(plan, self._tree_now(group)), self._mean_ms(plan, target)
        if now_ms >= UNREACHED_MS / len(group) and told:  # some hang on hosts that are no members
            now_ms = float(np.mean(told))
        plan.refused.clear()
        gain_min = GAIN_MIN if plan.changed_at > plan.planned_at else GAIN_MIN_AGAIN
        plan.target = target if then_ms < (1 - gain_min) * now_ms and then_ms < UNREACHED_MS else {}

    @staticmethod
    def _tree_now(group: Group) -> dict[HostId, HostId]:
        return {host: member.parent for host, member in group.items() if member.parent is not None}

    def _mean_ms(self, plan: _Channel, parents: Mapping[HostId, HostId]) -> float:
        """Mean delay of a tree; links that nobody measured count as unreachable."""
        publisher, late = plan.members[0], {plan.members[0]: 0.0}

        def delay_ms(host: HostId, depth: int) -> float:
            if host not in late:
                above = parents.get(host)
                if above is None or depth > len(plan.members):
                    return UNREACHED_MS
                late[host] = delay_ms(above, depth + 1) + self._link_ms(above, host)
            return late[host]

        return float(np.mean([delay_ms(host, 0) for host in plan.members if host != publisher]))

    def _link_ms(self, a: HostId, b: HostId) -> float:
        known = self._delay_table.one_way_ms(a, b)
        return UNREACHED_MS if known is None else known

    # ------------------------------------------------------------------ the moves

    def _moves(self, plan: _Channel, group: Group, now: float) -> dict[HostId, HostId]:
        for host, (parent, at) in list(plan.advised.items()):
            if group[host].parent == parent:
                del plan.advised[host]
            elif now - at > ADVICE_S:
                del plan.advised[host]
                plan.refused.add(host)
        apart = [h for h, p in plan.target.items() if group[h].parent != p and h not in plan.refused]
        if not apart or now - plan.planned_at > PLAN_S:
            plan.target, plan.planned_at = {}, now
            plan.advised.clear()
            return {}
        left = {host: member.spare for host, member in group.items()}
        for parent, _ in plan.advised.values():
            left[parent] -= 1
        moves: dict[HostId, HostId] = {}
        moves_max = max(MOVES_MIN, round(MOVES_SHARE * len(group)))
        for host in apart:
            parent = plan.target[host]
            if len(plan.advised) + len(moves) >= moves_max:
                break
            under_way = {moved: above for moved, (above, _) in plan.advised.items()} | moves
            if host not in plan.advised and left[parent] > 0 and not _hangs_on(group, parent, host, under_way):
                moves[host] = parent
                left[parent] -= 1
        if not moves and not plan.advised:
            moves = self._make_room(plan, group, apart, left)
        for host, parent in moves.items():
            plan.advised[host] = (parent, now)
        return moves

    def _make_room(
        self, plan: _Channel, group: Group, apart: list[HostId], left: dict[HostId, int]
    ) -> dict[HostId, HostId]:
        """Everyone waits for another's place: one host steps aside, to whom it is nearest of those with a copy left."""
        wanted = {plan.target[host] for host in apart}
        for host in apart:
            if group[host].parent not in wanted:
                continue
            asides = [
                (self._link_ms(other, host), other)
                for other in group
                if left[other] > 0 and other != group[host].parent and not _hangs_on(group, other, host, {})
            ]
            if asides:
                return {host: min(asides)[1]}
        return {}


def _hangs_on(group: Group, host: HostId, top: HostId, moves: Mapping[HostId, HostId]) -> bool:
    """Whether a host is another one or is below it, now or when some of the moves are made."""
    seen: set[HostId] = set()
    at = [host]
    while at:
        here = at.pop()
        if here == top:
            return True
        if here in seen or here not in group:
            continue
        seen.add(here)
        at += [above for above in (group[here].parent, moves.get(here)) if above is not None]
    return False
