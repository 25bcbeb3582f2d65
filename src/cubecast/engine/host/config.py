"""The tunables of the host's engine. One frozen value a component; a scenario file can set each (docs/testbed.md).

Time is counted in ticks of the host itself, so that a host that was stalled does not take its own silence for that of
others. A tick is 0.1 s live; a simulation of thousands of hosts may take a longer one, and everything takes so many
times longer there. Where a number was measured, docs/decisions says how.
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

Ticks: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000)]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000)]
Gain: TypeAlias = Annotated[float, Meta(gt=0, le=1)]
Milliseconds: TypeAlias = Annotated[float, Meta(ge=0, le=1e9)]


class LinkConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Links to neighbours, parents, children and possible parents (neighbourhood)."""

    heartbeat_ticks: Ticks = 10
    """Period of heartbeats on links that carry streams or lead to neighbours in the cube."""
    slow_heartbeat_ticks: Ticks = 20
    """Period on all other links; 31 hosts sent 49 messages a second each before, 35 with it (docs/decisions/0010)."""
    silent_ticks: Ticks = 25
    """Silence after which a link is closed: two heartbeats lost, and half a period for the third to be late."""
    clock_heartbeats: Count = 4
    """Every n-th heartbeat asks for the peer's clock: 4 s apart live, in which a quartz clock drifts by a fraction of a millisecond."""
    hello_heartbeats: Count = 3
    """The first n heartbeats come with a Hello: what was sent before both ends had the link up is lost."""
    hello_again_heartbeats: Count = 16
    """After those every n-th does, in case the directory moved the sender meanwhile."""
    redial_ticks: Annotated[tuple[Ticks, ...], Meta(min_length=1)] = (3, 5, 10, 20, 40, 50)
    """Pauses before a broken link is dialled again: the n-th after the n-th failure, the last from then on."""
    redial_soon_ticks: Ticks = 10
    """Longest such pause while a stream has no parent."""
    follow_ticks: Ticks = 2
    """Period of pings to parents: a parent's link is watched more closely than acknowledgements allow."""
    unneeded_ticks: Ticks = 100
    """A link that neither end needs is closed after this."""
    measure_ticks: Ticks = 40
    """A host that could not be measured within this is given up."""
    measured_ticks: Ticks = 25
    """A link opened only to be measured stays open for this, until the directory has the result (2 s a report)."""
    samples_ready: Count = 5
    """Samples of a link's round trip before its delay may be part of a promise."""
    sample_ticks: Ticks = 10
    """Period of the transport's statistics on idle links."""
    sample_ticks_in_use: Ticks = 2
    """The same on links that carry a stream."""
    wanted_links_max: Count = 64
    """Links kept for one purpose, such as the possible parents for one channel."""


class EstimateConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Estimates of a link's delay, variation, loss and clock offset (link_estimate)."""

    rtt_gain: Gain = 1 / 4
    """Gain of the smoothed round trip. RFC 6298 has 1/8; samples here are smoothed already by the transport."""
    jump_gain: Gain = 1 / 2
    """The same for a sample that is off by more than jump_ms: a link that has jumped is followed faster."""
    jump_ms: Milliseconds = 40.0
    """Difference from the smoothed round trip that counts as a jump; the least of two pings is rarely so far off."""
    variation_gain: Gain = 1 / 4
    """Gain of the variation, RFC 6298's beta."""
    pings: Count = 2
    """Of this many round trips in a row the least is one sample: a busy machine makes some of them longer."""
    loss_gain: Gain = 1 / 8
    """Gain of the smoothed share of lost packets."""
    spread_ms_min: Milliseconds = 2.0
    """What a hop adds to a late frame even on a steady link: sending a keyframe takes time (docs/decisions/0004)."""
    clock_samples: Count = 16
    """Clock samples kept; the one with the shortest round trip counts (as NTP's clock filter, RFC 5905, section 10)."""


class FailureConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a silent parent counts as dead (failure_detector)."""

    silent_ticks: Ticks = 3
    """Silence of a parent, no media and no message, that counts as death: 0.3 s live, for a repair within 0.5 s."""
    silent_ticks_max: Ticks = 24
    """Limit of the doubling after false alarms: still within what a reader waits for a repair."""
    revived_ticks: Ticks = 20
    """A parent that is heard again within this after it was declared dead was only slow: a false alarm."""
    calm_ticks: Ticks = 300
    """Without a false alarm for this, the silence allowed is halved again."""
    suspects_max: Count = 64
    """Parents declared dead that are watched for a false alarm."""
    busy_ms: Milliseconds = 20.0
    """Smoothed lateness of this host's own ticks beyond which it is short of CPU: a fifth of a tick."""
    busy_gain: Gain = 1 / 8
    """Gain of that smoothing: about a second."""


class TreeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Distribution trees: children (downstream) and parents (upstream)."""

    update_ticks: Ticks = 2
    """Period of the publisher's path updates; relays forward each at once."""
    relatives_ticks: Ticks = 20
    """Period at which children are sent their relatives."""
    contract_ticks: Ticks = 5
    """Period at which a child sends its subtree contract to its parent."""
    child_ticks: Ticks = 50
    """A child that sends no subtree contract for this loses its slot: ten of them missed."""
    dead_ticks: Ticks = 3
    """A child silent for this gives its slot to its own orphan that asks for it; children ping every follow_ticks."""
    drain_ticks: Ticks = 100
    """After a channel has ended, relays keep it for this: the last frames are still on their way."""
    leave_ticks: Ticks = 30
    """A host that leaves feeds its children for this while they look for other parents."""
    flowing_ticks: Ticks = 15
    """After uninterrupted media for this, children should be receiving too; path updates say so."""
    rate_s: Annotated[float, Meta(gt=0)] = 2.0
    """A channel's rate is measured over at least this, s: several groups of video."""
    rate_gain: Gain = 1 / 4
    """Gain of the smoothed rate."""
    feasibility_max: Count = 1024
    """Channels whose feasibility distance is remembered, also after the host no longer carries them."""
    idle_ticks: Ticks = 15
    """Without media for this a channel is idle."""
    idle_silent_ticks: Ticks = 10
    """On an idle channel a parent is declared dead on missed heartbeats alone, after this: one heartbeat."""
    stale_ticks: Ticks = 20
    """A parent that sends no newer sequence number for this has lost its own parent and finds no other."""
    stalled_ticks: Ticks = 15
    """Media that flows at the parent and has not arrived here for this will not arrive."""
    repair_ticks: Ticks = 100
    """Without a parent for this the stream is given up: hosts cut off for seconds must be dialled first."""
    pull_ticks: Ticks = 40
    """A new parent whose media does not arrive within this is left again."""
    report_ticks: Ticks = 50
    """Period at which the directory is sent how a local subscription fares."""
    relative_links: Count = 6
    """Links kept to relatives, so that one of them can become the parent at once."""


class SearchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Searches for a parent (search)."""

    tries: Count = 24
    """Requests one search may send over the cube in all: bounds its messages, whatever the size of the cube."""
    direct_max: Count = 12
    """Hosts known to carry the channel that one search asks directly."""
    search_ticks: Ticks = 50
    """After this a subscriber decides on the best offer so far."""
    change_ticks: Ticks = 12
    """Limit of a change of parents: meanwhile this host's sequence number stands still, and its subtree waits with it."""
    offer_ticks: Ticks = 70
    """An offer nobody commits to expires after this; longer than a search."""
    park_ticks: Ticks = 6
    """A host asked to attach another waits this long for a sequence number new enough to rule out a loop."""
    answer_ticks: Ticks = 2
    """Time for an answer to Attach, beyond the round trip."""
    probe_ticks: Ticks = 15
    """A newcomer measures the parents that the directory proposed for this at most."""
    probe_samples: Count = 2
    """Samples of a proposed parent's link before it is asked."""
    shun_ticks: Ticks = 5
    """A parent just lost is not asked to be the next one for this."""
    retry_ticks: Ticks = 3
    """A repair that found nobody is tried again after this."""
    relocations_max: Count = 3
    """Better labels a newcomer asks the directory for."""
    settle_ticks: Ticks = 20
    """After a relocation the search waits for this: the links to its new neighbours are measured first."""
    resolve_ticks: Ticks = 5
    """After a transient refusal the channel is resolved again after this."""
    resolves_max: Count = 4
    """How often at most."""
    searches_max: Count = 1024
    """Searches under way, those for other hosts included; more are refused."""


class StandbyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Standby parents (optimise.standby)."""

    look_ticks: Ticks = 5
    """Period at which each channel's standby is checked."""
    ask_ticks: Ticks = 20
    """Period of StandbyRequest: the standby learns that this host is still there."""
    wait_ticks: Ticks = 60
    """A standby whose session does not open within this is given up."""
    shun_ticks: Ticks = 40
    """A host that refused or failed as standby is not asked again for this."""
    shunned_max: Count = 64
    """Hosts and channels remembered for that."""


class SwitchingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Switching to better parents (optimise.switching)."""

    look_ticks: Ticks = 2
    """Period at which candidates are compared with the parent."""
    gain_ms: Milliseconds = 10.0
    """Least gain worth a switch; below it noise decides (docs/decisions/0010)."""
    gain_share: Gain = 0.1
    """Least gain as a share of the delay now."""
    variation_max_ms: Milliseconds = 20.0
    """Variation of the parent's link that counts as noise at most: one whose delay has jumped varies a lot, and should
    be left."""
    broken_gain_ms: Milliseconds = 2.0
    """Least gain while the bound is broken."""
    hold_ticks: Ticks = 24
    """How long a gain just at the threshold must last; a larger one for proportionally less."""
    hold_ticks_min: Ticks = 8
    """How long any gain must last."""
    return_ticks: Ticks = 60
    """How long a gain by a former parent must last: without that, hosts flap between two parents."""
    left_max: Count = 16
    """Former parents remembered."""
    cube_ticks: Ticks = 40
    """While the bound is broken and no carrier helps, a path over the cube is searched with this period."""
    advice_ticks: Ticks = 30
    """The directory's advice is tried for this."""
    advice_samples: Count = 3
    """Samples of the advised parent's link before it is asked."""
    slower_ms: Milliseconds = 20.0
    """A host whose delay has grown by this does not rest."""
    settle_ticks: Ticks = 50
    """After a switch the next waits for this unless the bound is broken: several in a row can break a track."""
    rest_ticks: Ticks = 100
    """After advice the host switches on its own only after this, so that the directory can complete its plan."""


class EngineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All tunables of the host's engine."""

    tick_s: Annotated[float, Meta(ge=0.01, le=60)] = 0.1
    """Period of Tick, s: a third of the silence after which a parent is declared dead."""
    links: LinkConfig = LinkConfig()
    estimate: EstimateConfig = EstimateConfig()
    failure: FailureConfig = FailureConfig()
    tree: TreeConfig = TreeConfig()
    search: SearchConfig = SearchConfig()
    standby: StandbyConfig = StandbyConfig()
    switching: SwitchingConfig = SwitchingConfig()

    @property
    def repair_s(self) -> float:
        """How long a stream without a parent waits for a new one, s."""
        return self.tree.repair_ticks * self.tick_s

    @property
    def leave_s(self) -> float:
        """How long a host that leaves feeds its children, s."""
        return self.tree.leave_ticks * self.tick_s

    @property
    def drain_s(self) -> float:
        """How long a channel that has ended is kept, s."""
        return self.tree.drain_ticks * self.tick_s


DEFAULT = EngineConfig()
