"""Plans hybrid trees from measured delays and turns each plan into advice, one change of parent at a time.

For each channel the planner runs the survey of `cubecast.overlay.trees.hybrid`: a generator that yields pairs of hosts and
is sent their delays. Reported delays answer it, and missing ones are requested from the hosts. The tree it returns is
carried out move by move: a host is advised to change to its new parent once that parent has spare fan-out and is not a
descendant of the host. Hosts decide: they try the advice, keep their bounds, and report their new paths. A plan with
little gain is dropped, so that trees do not change because of the jitter of delays alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cubecast.engine.directory.config import PlannerConfig
from cubecast.engine.directory.delay_table import UNREACHED_MS, DelayTable
from cubecast.errors import UsageError
from cubecast.overlay.trees.hybrid import Requirements, hybrid_tree
from cubecast.overlay.trees.measured import Survey
from cubecast.types import ChannelName, Floats, HostId, Ints


@dataclass(frozen=True, slots=True)
class TreeMember:
    """A host on a channel's tree, as a plan sees it.

    Attributes:
        parent: None at the publisher, or where the host has not reported one.
        bound_ms: infinite at the publisher.
        slots: copies it may send of this channel.
        spare: further copies it may send, over all channels.
        promised_ms: its promised delay.
    """

    parent: HostId | None
    bound_ms: float
    slots: int
    spare: int
    promised_ms: float = 0.0


Group = Mapping[HostId, TreeMember]
"""The hosts on a channel's tree, the publisher first."""


@dataclass(slots=True)
class _Plan:
    """One channel's plan: first surveyed, then carried out, then idle until the group changes or time has passed."""

    members: tuple[HostId, ...] = ()
    changed_at: float = -np.inf
    """When the members changed last, s."""
    survey: Survey[Ints] | None = None
    """The running survey."""
    pairs: list[tuple[HostId, HostId]] = field(default_factory=list)
    """The pairs whose delays the survey waits for."""
    started_at: float = -np.inf
    """When the survey began, s."""
    target: dict[HostId, HostId] = field(default_factory=dict)
    """The planned parent of each host; empty while nothing is carried out."""
    planned_at: float = -np.inf
    """When the last survey, or the moves planned from it, ended, s."""
    has_planned: bool = False
    """Whether a survey of these members has ended with a tree; one that took too long has not."""
    advised: dict[HostId, tuple[HostId, float]] = field(default_factory=dict)
    """Advice that has not been followed yet: the parent, and when it was given, s."""
    refused: set[HostId] = field(default_factory=set)
    """Hosts that did not follow this plan's advice."""


class Planner:
    """The plans of all channels. The directory engine owns one."""

    def __init__(self, delay_table: DelayTable, rng: np.random.Generator, config: PlannerConfig) -> None:
        self._delay_table = delay_table
        self._rng = rng
        self._config = config
        self._plans: dict[ChannelName, _Plan] = {}

    def forget(self, channel: ChannelName) -> None:
        """Drops the plan of a channel that has ended."""
        self._plans.pop(channel, None)

    def advise(self, channel: ChannelName, group: Group, now: float) -> dict[HostId, HostId]:
        """The changes of parents that should be tried now: the new parent of each host."""
        plan = self._plans.setdefault(channel, _Plan())
        members = tuple(group)
        if members != plan.members:
            plan.members, plan.changed_at, plan.survey, plan.target = members, now, None, {}
            plan.has_planned = False
            plan.advised.clear()
        if not 2 < len(members) <= self._config.group_max:
            return {}
        if plan.survey is None and not plan.target and now - plan.changed_at >= self._config.settle_s:
            self._start_survey(plan, group, now)
        if plan.survey is not None:
            self._continue_survey(plan, group, now)
        return self._moves(plan, group, now) if plan.target else {}

    # ------------------------------------------------------------------ the survey

    def _start_survey(self, plan: _Plan, group: Group, now: float) -> None:
        if now - plan.planned_at < self._config.replan_after_s and plan.planned_at > plan.changed_at:
            return
        required = Requirements(
            np.array([member.slots for member in group.values()], np.int64),
            np.ones(len(group)),
            np.array([member.bound_ms for member in group.values()]),
        )
        plan.survey, plan.started_at = hybrid_tree(required, np.random.default_rng(self._rng.integers(2**32))), now
        plan.pairs = []
        if self._advance_survey(plan, group, None):
            plan.planned_at = now

    def _continue_survey(self, plan: _Plan, group: Group, now: float) -> None:
        """Sends the survey the delays it asks for, round by round, until some must be measured first."""
        for _ in range(self._config.survey_rounds_max):
            delays_ms = self._delay_table.delays_ms(plan.pairs, now)
            if delays_ms is None:
                if now - plan.started_at > self._config.survey_timeout_s:
                    plan.survey, plan.planned_at = None, now
                return
            if self._advance_survey(plan, group, delays_ms):
                plan.planned_at = now
                self._delay_table.drop_requests()
                return

    def _advance_survey(self, plan: _Plan, group: Group, delays_ms: Floats | None) -> bool:
        """Sends the survey the delays of the pairs it yielded last; None starts it.

        Returns:
            Whether it has ended.
        """
        assert plan.survey is not None, "the caller checked"
        try:
            pairs = plan.survey.send(delays_ms)  # type: ignore[arg-type]
        except UsageError:  # the fan-outs cannot serve all hosts: there is nothing to plan
            plan.survey = None
        except StopIteration as end:
            plan.survey = None
            self._set_target(plan, group, end.value)
        else:
            plan.pairs = [(plan.members[a], plan.members[b]) for a, b in pairs.tolist()]
            return False
        return True

    def _set_target(self, plan: _Plan, group: Group, parents: Ints) -> None:
        """Makes a tree the target if its gain is worth the moves."""
        target = {plan.members[node]: plan.members[parents[node]] for node in range(1, len(parents))}
        current = {host: member.parent for host, member in group.items() if member.parent is not None}
        promised_ms = [member.promised_ms for member in group.values() if member.parent is not None]
        current_ms, target_ms = self._mean_ms(plan, current), self._mean_ms(plan, target)
        if current_ms >= UNREACHED_MS / len(group) and promised_ms:  # some have parents outside the group
            current_ms = float(np.mean(promised_ms))
        plan.refused.clear()
        gain_min = self._config.gain_min_again if plan.has_planned else self._config.gain_min
        plan.has_planned = True
        plan.target = target if target_ms < (1 - gain_min) * current_ms and target_ms < UNREACHED_MS else {}

    def _mean_ms(self, plan: _Plan, parents: Mapping[HostId, HostId]) -> float:
        """Mean delay of a tree; links without a measured delay count as unreachable."""
        publisher = plan.members[0]
        known_ms = {publisher: 0.0}

        def delay_ms(host: HostId, depth: int) -> float:
            if host not in known_ms:
                parent = parents.get(host)
                if parent is None or depth > len(plan.members):
                    return UNREACHED_MS
                known_ms[host] = delay_ms(parent, depth + 1) + self._link_ms(parent, host)
            return known_ms[host]

        return float(np.mean([delay_ms(host, 0) for host in plan.members if host != publisher]))

    def _link_ms(self, a: HostId, b: HostId) -> float:
        known = self._delay_table.one_way_ms(a, b)
        return UNREACHED_MS if known is None else known

    # ------------------------------------------------------------------ the moves

    def _moves(self, plan: _Plan, group: Group, now: float) -> dict[HostId, HostId]:
        """The moves of a plan that can be made now; ends the plan when none is left or its time is over."""
        self._check_advice(plan, group, now)
        remaining = [h for h, p in plan.target.items() if group[h].parent != p and h not in plan.refused]
        if not remaining or now - plan.planned_at > self._config.plan_timeout_s:
            plan.target, plan.planned_at = {}, now
            plan.advised.clear()
            return {}
        spare = {host: member.spare for host, member in group.items()}
        for parent, _ in plan.advised.values():
            spare[parent] -= 1
        moves: dict[HostId, HostId] = {}
        moves_max = max(self._config.moves_min, round(self._config.moves_share * len(group)))
        for host in remaining:
            parent = plan.target[host]
            if len(plan.advised) + len(moves) >= moves_max:
                break
            pending = {advised: to for advised, (to, _) in plan.advised.items()} | moves
            if host not in plan.advised and spare[parent] > 0 and not _is_below(group, parent, host, pending):
                moves[host] = parent
                spare[parent] -= 1
        if not moves and not plan.advised:
            moves = self._detour(plan, group, remaining, spare)
        for host, parent in moves.items():
            plan.advised[host] = (parent, now)
        return moves

    def _check_advice(self, plan: _Plan, group: Group, now: float) -> None:
        """Drops advice that was followed, and advice that was not followed in time."""
        for host, (parent, at) in list(plan.advised.items()):
            if group[host].parent == parent:
                del plan.advised[host]
            elif now - at > self._config.advice_timeout_s:
                del plan.advised[host]
                plan.refused.add(host)

    def _detour(
        self, plan: _Plan, group: Group, remaining: list[HostId], spare: dict[HostId, int]
    ) -> dict[HostId, HostId]:
        """A move for when every remaining one waits for another: one host goes to its nearest host with spare fan-out."""
        full_parents = {plan.target[host] for host in remaining}
        for host in remaining:
            if group[host].parent not in full_parents:
                continue
            others = [
                (self._link_ms(other, host), other)
                for other in group
                if spare[other] > 0 and other != group[host].parent and not _is_below(group, other, host, {})
            ]
            if others:
                return {host: min(others)[1]}
        return {}


def _is_below(group: Group, host: HostId, top: HostId, moves: Mapping[HostId, HostId]) -> bool:
    """Whether a host is `top` or its descendant, now or when some of the moves are made."""
    seen: set[HostId] = set()
    remaining = [host]
    while remaining:
        current = remaining.pop()
        if current == top:
            return True
        if current in seen or current not in group:
            continue
        seen.add(current)
        remaining += [parent for parent in (group[current].parent, moves.get(current)) if parent is not None]
    return False
