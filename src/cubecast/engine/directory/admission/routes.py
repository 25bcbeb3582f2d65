"""Routes to a channel for a subscriber whose bound no host on the tree keeps: over hosts that need not carry it yet.

The directory knows the promised delays on the tree and the delays that hosts have measured. It finds the shortest paths
from every host on the tree with spare fan-out, over hosts that have some too, to the subscriber. Links that nobody has
measured are not used; those that promise most by the hosts' coordinates are measured, so that asking again finds more.
Where only full hosts would keep the bound, a child of one of them is displaced (`displacement`).
"""

import heapq
from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from cubecast.engine.directory.admission.displacement import Displacement, DisplacementPlanner, TreeView
from cubecast.engine.directory.channels import Channels
from cubecast.engine.directory.config import DirectoryConfig
from cubecast.engine.directory.delay_table import DelayTable
from cubecast.engine.directory.events import Advise, AnswerRoutes, AskProbes, DirectoryEffect
from cubecast.engine.directory.state import DirectoryState
from cubecast.engine.protocol.http_bodies import RoutesAnswer
from cubecast.engine.protocol.path import RELAY_MS
from cubecast.engine.protocol.records import Advice, ChannelRecord, HostRecord, Route, Tree
from cubecast.types import ChannelName, Floats, HostId


class RouteFinder:
    """Answers subscribers that ask for routes. The directory engine owns one."""

    def __init__(
        self, state: DirectoryState, channels: Channels, delay_table: DelayTable, config: DirectoryConfig
    ) -> None:
        self._state = state
        self._channels = channels
        self._delay_table = delay_table
        self._config = config.routes
        self._spread_ms = config.displacement.spread_ms
        self._displacements = DisplacementPlanner(delay_table, config.displacement)

    def find(self, host: HostId, channel: ChannelName, now: float) -> list[DirectoryEffect]:
        """The routes for a subscriber, and requests to measure the links of more.

        Raises:
            DirectoryError: the host has not joined, or was removed.
        """
        member, record = self._state.member(host), self._state.channels.get(channel)
        if record is None or record.tree is not Tree.HYBRID:
            return [AnswerRoutes(RoutesAnswer((), (), pending=False))]
        copies = self._channels.copies()
        on_tree_ms = self._channels.on_tree_ms(record)
        sites = self._sites(host, record, on_tree_ms)
        spare = {each: self._state.members[each].record.fan_out - copies[each] for each in sites}
        has_spare = {each: spare[each] > 0 for each in sites}
        expected_ms, before = self._shortest(sites, on_tree_ms, has_spare)
        estimated_ms = self._delay_table.matrix_ms(sites)
        asked = self._ask_probes(sites, on_tree_ms, expected_ms, estimated_ms, has_spare)
        routes = self._routes(host, sites, expected_ms, before, has_spare)
        probes = self._to_probe(host, sites, on_tree_ms, estimated_ms, has_spare)
        report, displacement = member.subscriptions.get(channel), Displacement()
        if report is not None and report.state == "searching":
            known = {each: ms for each, ms in on_tree_ms.items() if each in spare}
            tree = TreeView(channel, known, spare, self._channels.receivers(channel))
            at = {each: index for index, each in enumerate(sites)}

            def delay_ms(a: HostId, b: HostId) -> float:
                return float(estimated_ms[at[a], at[b]]) if a in at and b in at else np.inf

            displacement = self._displacements.plan(
                host,
                report.bound_ms,
                tree,
                delay_ms,
                now,
                kept=self._keeps(host, report.bound_ms, routes),
                waits=bool(asked or probes),
            )
            for child, to in displacement.links:
                dialler, dialled = (to, child) if self._delay_table.is_hidden(to) else (child, to)
                asked.setdefault(dialler, []).append(dialled)
        members = self._state.members
        answer = RoutesAnswer(
            routes,
            (*probes, *(members[each].record for each in displacement.probes)),
            pending=bool(asked) or displacement.pending,
            carriers=len(on_tree_ms),
            others_search=self._others_search(host, channel),
        )
        return [*self._requests(answer, asked), *self._advice(channel, host, displacement), AnswerRoutes(answer)]

    def _requests(self, answer: RoutesAnswer, asked: Mapping[HostId, list[HostId]]) -> list[DirectoryEffect]:
        """Requests to measure links: those asked for, and those of the routes, which may have been closed since."""
        members = self._state.members
        pushes = {each: tuple(members[other].record for other in others) for each, others in asked.items()}
        for route in answer.routes:
            for a, b in pairwise((route.first.host, *route.onward)):
                dialler, dialled = (b, a) if self._delay_table.is_hidden(b) else (a, b)
                pushes[dialler] = (*pushes.get(dialler, ()), members[dialled].record)
        return [AskProbes(each, tuple(dict.fromkeys(records))) for each, records in pushes.items()]

    def _advice(self, channel: ChannelName, host: HostId, displacement: Displacement) -> list[DirectoryEffect]:
        """Advice to the child that is displaced for a subscriber."""
        if displacement.move is None:
            return []
        (child, to), members = displacement.move, self._state.members
        advice: list[DirectoryEffect] = [Advise(child, Advice(channel, members[to].record, host))]
        if self._delay_table.is_hidden(to):  # the child cannot dial it, so it dials the child
            advice.append(AskProbes(to, (members[child].record,)))
        return advice

    def _keeps(self, host: HostId, bound_ms: float, routes: tuple[Route, ...]) -> bool:
        """Whether one of the routes is expected to keep a bound."""
        for route in routes:
            link_ms, hops = self._delay_table.one_way_ms(host, route.first.host), len(route.onward) + 1
            if link_ms is not None and route.expected_ms + link_ms + RELAY_MS + hops * self._spread_ms <= bound_ms:
                return True
        return False

    def _sites(self, host: HostId, record: ChannelRecord, on_tree_ms: Mapping[HostId, float]) -> list[HostId]:
        """The hosts considered, the subscriber first: all of a small overlay, else those near it and the publisher."""
        others = [each for each in self._state.members if each != host]
        if len(others) > self._config.sites_max:
            positions = self._delay_table.positions([*others, host])
            to_host = np.linalg.norm(positions[:-1] - positions[-1], axis=1)
            origin = positions[others.index(record.publisher)] if record.publisher in others else positions[-1]
            detour = to_host + np.linalg.norm(positions[:-1] - origin, axis=1)
            carry = np.array([each in on_tree_ms for each in others])
            nearest = np.lexsort((detour, ~carry))[: self._config.sites_max]
            others = [others[index] for index in sorted(nearest.tolist())]
        return [host, *others]

    def _shortest(
        self, sites: list[HostId], on_tree_ms: Mapping[HostId, float], has_spare: Mapping[HostId, bool]
    ) -> tuple[dict[HostId, float], dict[HostId, HostId]]:
        """The least delay expected at each host over measured links, ms, and the host before it on its path.

        Hosts on the tree stay where they are; the subscriber, sites[0], relays nothing.
        """
        expected_ms: dict[HostId, float] = {}
        before: dict[HostId, HostId] = {}
        queue: list[tuple[float, HostId, HostId]] = [
            (on_tree_ms[each], each, each) for each in sites[1:] if each in on_tree_ms
        ]
        heapq.heapify(queue)
        while queue:
            ms, host, source = heapq.heappop(queue)
            if host in expected_ms:
                continue
            expected_ms[host], before[host] = ms, source
            if not has_spare[host] or host == sites[0]:
                continue
            for other in sites:
                link_ms = self._delay_table.one_way_ms(host, other)
                if other not in expected_ms and other not in on_tree_ms and link_ms is not None:
                    heapq.heappush(queue, (ms + link_ms + RELAY_MS, other, host))
        return expected_ms, before

    def _routes(
        self,
        host: HostId,
        sites: list[HostId],
        expected_ms: Mapping[HostId, float],
        before: Mapping[HostId, HostId],
        has_spare: Mapping[HostId, bool],
    ) -> tuple[Route, ...]:
        """The routes to begin with each host that has spare fan-out, by the delay expected at the subscriber."""
        ranked = []
        for first in sites[1:]:
            link_ms = self._delay_table.one_way_ms(host, first)
            if first in expected_ms and has_spare[first] and link_ms is not None:
                ranked.append((expected_ms[first] + link_ms, first))
        routes = []
        for _, first in sorted(ranked)[: self._config.routes_max]:
            onward: list[HostId] = []
            current = first
            while before[current] != current:
                current = before[current]
                onward.append(current)
            if len(onward) <= self._config.hops_max:
                routes.append(Route(self._state.members[first].record, tuple(onward), expected_ms[first]))
        return tuple(routes)

    def _to_probe(
        self,
        host: HostId,
        sites: list[HostId],
        on_tree_ms: Mapping[HostId, float],
        estimated_ms: Floats,
        has_spare: Mapping[HostId, bool],
    ) -> tuple[HostRecord, ...]:
        """Hosts with spare fan-out that the subscriber has not measured, the most promising first."""
        tree = [index for index, each in enumerate(sites) if each in on_tree_ms and has_spare[each]]
        if not tree:
            return ()
        to_tree_ms = np.min([estimated_ms[index] + on_tree_ms[sites[index]] for index in tree], axis=0)
        ranked = sorted(
            (float(to_tree_ms[index] + estimated_ms[index, 0]), each)
            for index, each in enumerate(sites)
            if index
            and has_spare[each]
            and self._delay_table.one_way_ms(host, each) is None
            and not (self._delay_table.is_hidden(host) and self._delay_table.is_hidden(each))
            and not self._delay_table.is_hidden(each)
        )
        return tuple(self._state.members[each].record for _, each in ranked[: self._config.probes_max])

    def _ask_probes(
        self,
        sites: list[HostId],
        on_tree_ms: Mapping[HostId, float],
        expected_ms: Mapping[HostId, float],
        estimated_ms: Floats,
        has_spare: Mapping[HostId, bool],
    ) -> dict[HostId, list[HostId]]:
        """Unmeasured links between idle hosts and the tree that could shorten a path to the subscriber, by who measures."""
        tree = [index for index, each in enumerate(sites) if each in on_tree_ms and has_spare[each]]
        ranked: list[tuple[float, HostId, HostId]] = []
        for index, each in enumerate(sites):
            if index == 0 or each in on_tree_ms or not has_spare[each]:
                continue
            through = sorted(
                (on_tree_ms[sites[above]] + float(estimated_ms[above, index]), sites[above]) for above in tree
            )
            for ms, above in through[: self._config.links_per_idle_host]:
                if self._delay_table.one_way_ms(each, above) is None and ms < expected_ms.get(each, np.inf):
                    ranked.append((ms + float(estimated_ms[index, 0]), each, above))
        asked: dict[HostId, list[HostId]] = {}
        for _, a, b in sorted(ranked)[: self._config.links_max]:
            if self._delay_table.is_hidden(a) and self._delay_table.is_hidden(b):
                continue
            dialler, dialled = (b, a) if self._delay_table.is_hidden(b) else (a, b)
            asked.setdefault(dialler, []).append(dialled)
        return asked

    def _others_search(self, host: HostId, channel: ChannelName) -> bool:
        """Whether other subscribers of the channel are being admitted: they may relay soon."""
        return any(
            report.state == "searching" and report.channel == channel and report.subscriber != host
            for report in self._state.subscriptions()
        )
