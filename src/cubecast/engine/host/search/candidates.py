"""Whom a search asks: hosts that are known to carry the channel, and the next hops of the cube."""

import numpy as np

from cubecast.engine.host.failure_detector import SILENT_TICKS
from cubecast.engine.host.neighbourhood import Neighbourhood
from cubecast.engine.host.search.state import RESHAPED, Hop, Purpose, Search
from cubecast.engine.host.tree.downstream import Downstream
from cubecast.engine.host.tree.upstream import Upstream
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import Tree
from cubecast.overlay.cube import distance
from cubecast.overlay.routing import Policy, ranked_next_hops
from cubecast.types import ChannelName, HostId, Label

DIRECT_MAX = 12
"""Hosts on the tree one search asks directly."""
PROBE_SAMPLES = 2
"""Samples of a proposed parent's link before it is asked."""


class Candidates:
    """Looks at links and placement. The engine owns one."""

    def __init__(
        self,
        neighbourhood: Neighbourhood,
        downstream: Downstream,
        upstream: Upstream,
        policy: Policy,
        rng: np.random.Generator,
    ) -> None:
        self._neighbourhood = neighbourhood
        self._downstream = downstream
        self._upstream = upstream
        self._policy = policy
        self._rng = rng

    def on_tree(
        self, channel: ChannelName, contract: Contract, tree: Tree, without: HostId | None = None
    ) -> list[HostId]:
        """Linked hosts that carry the channel and have a copy left, those first that keep the contract, soonest first.

        Args:
            tree: under `cube` and `graft` only neighbours in the cube count.
        """
        branch = self._downstream.branches.get(channel)
        eligible = None if tree is Tree.HYBRID else self._neighbourhood.neighbours()
        mine = {without} if branch is None else {without, branch.upstream, *branch.children}
        ours = None if branch is None else branch.former  # where we have a place, be it full
        ranked: list[tuple[bool, bool, float, HostId]] = []
        for host, there in self._neighbourhood.carrying(channel).items():
            link = self._neighbourhood.links[host]
            if (
                host in mine
                or (eligible is not None and host not in eligible)
                or (link.spare.get(channel, 0) <= 0 and host != ours)
                or link.leaving
                or self._neighbourhood.late(host, SILENT_TICKS)
            ):
                continue
            metrics = self._upstream.metrics_through(host, there)
            if metrics is not None:
                ranked.append((not contract.kept_by(metrics), *contract.rank(metrics), host))
        return [host for *_, host in sorted(ranked)[:DIRECT_MAX]]

    def next_hops(self, search: Search) -> list[Hop]:
        """Next hops towards the target with a measured link, best first; hops between our own labels are free."""
        if search.onward is not None:
            known = search.onward not in search.trail and self._neighbourhood.one_way_ms(search.onward) is not None
            return [Hop(search.onward)] if known else []
        placement, cube = self._neighbourhood.placement, self._neighbourhood.cube
        if search.purpose is Purpose.RELAY and self._neighbourhood.host in search.trail:
            search.reason = "the request came back to a host it had passed"
            return []
        if placement is None or cube is None or search.epoch != placement.epoch:
            search.reason = RESHAPED
            return []
        here = min(placement.labels, key=lambda label: (distance(cube, label, search.target), label))

        def cost_ms(label: Label) -> float:
            host = self._neighbourhood.carrier(label)
            measured = None if host is None else self._neighbourhood.one_way_ms(host)
            hops = 1 if self._neighbourhood.onward(label) is None else 2  # the second of a carried link is not known
            return float("inf") if measured is None else hops * measured

        ranked = ranked_next_hops(self._policy, cube, here, search.target, cost_ms, self._rng)
        usable: dict[Hop, None] = {}
        for label in ranked:
            host, onward = self._neighbourhood.carrier(label), self._neighbourhood.onward(label)
            if host is not None and not {host, onward} & set(search.trail) and cost_ms(label) < float("inf"):
                usable[Hop(host, onward)] = None
        for host in self._neighbourhood.carrying(search.channel):  # hidden hosts whose links of the cube we carry
            record = self._neighbourhood.record(host)
            if record is not None and not record.reachable and host not in search.trail:
                usable[Hop(host)] = None
        if not usable and placement.neighbours and not self._neighbourhood.neighbours():
            search.reason = "no neighbour can be dialled, nor can this host: a reachable host must join"
        return list(usable)

    def probed(self, search: Search) -> bool:
        """Whether every host proposed has told what it carries, or cannot be reached: a link may close as it is needed."""
        links = [self._neighbourhood.links.get(host) for host in self._neighbourhood.wanted_hosts(search.channel)]
        return all(
            link is None
            or link.failures > 1
            or (search.channel in link.carried and link.estimate.samples >= PROBE_SAMPLES)
            for link in links
        )
