"""The tunables of the host's engine: one frozen struct per component; a scenario file can set each (docs/testbed.md).

Time is counted in ticks of the host itself, so that a host that was stalled does not mistake its own pause for silence
of others. A tick is 0.1 s live; a simulation of thousands of hosts may use a longer one, which stretches every duration
here. Where a number was measured, docs/decisions says how.
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

    heartbeat_ticks: Ticks = 20
    """Period of heartbeats to parents and standbys. What shows that a stream has stopped is the stream itself."""
    slow_heartbeat_ticks: Ticks = 50
    """Period on all other links: with four channels 16 hosts have 14 links each, most of them slow (docs/decisions/0022)."""
    new_heartbeat_ticks: Ticks = 10
    """Period of the first hello_heartbeats on a new link."""
    announce_ticks: Ticks = 5
    """Least time between two heartbeats on a link: one comes early when what this host announces has changed."""
    announce_ms: Milliseconds = 5.0
    """Change of a path's delay, or of a contract's bound, that is sent early; smaller ones are within the noise of the
    estimates."""
    announce_share: Gain = 0.1
    """The same as a share of the delay, and of the rate."""
    announce_loss: Annotated[float, Meta(gt=0, le=1)] = 0.005
    """The same of a share of packets lost."""
    late_ticks: Ticks = 3
    """A peer whose heartbeat is late by this much is pinged."""
    ping_ticks: Ticks = 2
    """Least time between two pings to one peer."""
    unanswered_ticks: Ticks = 20
    """A link over which a ping, and those after it, have no answer for this long is closed: hosts stall for a second."""
    watch_ticks: Ticks = 20
    """A parent's link is pinged for this long after it was new, its delay jumped, or media paused."""
    hello_heartbeats: Count = 3
    """The first n heartbeats come with a Hello and a Ping: what was sent before both ends had the link up is lost."""
    redial_ticks: Annotated[tuple[Ticks, ...], Meta(min_length=1)] = (3, 5, 10, 20, 40, 50)
    """Pauses before a broken link is dialled again: the n-th after the n-th failure, the last from then on."""
    redial_soon_ticks: Ticks = 10
    """Longest such pause while a stream has no parent."""
    carried_heartbeats: Count = 5
    """A channel that a peer with too many for one heartbeat does not name again within this many is forgotten. A host
    publishes 256 at most, four heartbeats of them, and one more may be late."""
    unneeded_ticks: Ticks = 100
    """A link that neither end needs is closed after this."""
    measure_ticks: Ticks = 40
    """The delay to a host that is not measured after this is no longer waited for."""
    measured_ticks: Ticks = 25
    """A link opened only to be measured stays open for this, until the directory has the result (2 s a report)."""
    samples_ready: Count = 5
    """Samples of a link's round trip before its delay may be part of a promise."""
    sample_ticks: Ticks = 10
    """Period of the transport's statistics on idle links."""
    sample_ticks_in_use: Ticks = 2
    """The same on links that carry a stream."""
    wanted_links_max: Count = 64
    """Maximum number of links kept for one purpose, such as the possible parents for one channel."""


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
    """Number of round trips in a row of which the shortest is one sample: a busy machine makes some of them longer."""
    loss_gain: Gain = 1 / 8
    """Gain of the smoothed share of lost packets."""
    spread_ms_min: Milliseconds = 2.0
    """What a hop adds to a late frame even on a steady link: sending a keyframe takes time (docs/decisions/0004)."""
    clock_samples: Count = 16
    """Number of clock samples kept; the one with the shortest round trip counts (as in NTP's clock filter, RFC 5905,
    section 10)."""


class FailureConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a silent parent counts as dead (failure_detector)."""

    silent_ticks: Ticks = 3
    """Silence (no media and no message) after which a parent is declared dead: 0.3 s live, for a repair within 0.5 s."""
    silent_ticks_max: Ticks = 24
    """Longest such silence, which false alarms double: still shorter than the time that a reader waits for a repair."""
    revived_ticks: Ticks = 20
    """A parent that sends a message within this after it was declared dead was only slow: a false alarm."""
    calm_ticks: Ticks = 300
    """After this time without a false alarm the silence allowed is halved again."""
    suspects_max: Count = 64
    """Maximum number of parents declared dead that are watched for a false alarm: bounds memory."""
    busy_ms: Milliseconds = 20.0
    """Smoothed lateness of this host's own ticks beyond which it is short of CPU: a fifth of a tick."""
    busy_gain: Gain = 1 / 8
    """Gain of that smoothing: about a second."""


class TreeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Distribution trees: children (downstream) and parents (upstream)."""

    update_ticks: Ticks = 20
    """Period of the publisher's path updates; relays forward each at once. Changes are sent when they happen."""
    relatives_ticks: Ticks = 100
    """Period at which children are sent their relatives; changes are sent at the next tick."""
    contract_ticks: Ticks = 5
    """Least time between two subtree contracts to a parent: one is sent when it changes, and with each heartbeat."""
    child_ticks: Ticks = 50
    """A child that sends no subtree contract for this long loses its slot: two heartbeats missed, and half a period."""
    dead_ticks: Ticks = 1
    """A child that has not answered a ping for this long, beyond the round trip, loses its slot to its own child, which
    has heard nothing from it for FailureConfig.silent_ticks."""
    reserved_ticks: Ticks = 30
    """The slot that a displaced child frees is reserved for a newcomer for this long: until the newcomer's search has learnt
    that it is free, at most two rounds with the directory."""
    pause_ticks: Ticks = 2
    """After this time without media a host sends its children path updates at every tick, so that they do not mistake the
    pause for its death, and pings its parent."""
    sparse_ticks: Ticks = 4
    """A channel that usually pauses for this long is given its usual pause, and one tick, in place of pause_ticks: its hosts
    find a dead parent later by as much. Faster ones are not: five frames a second still repair within 0.5 s."""
    usual_ticks: Ticks = 100
    """The usual pause is the longest one of the last one or two of these periods."""
    idle_update_ticks: Ticks = 7
    """Period of path updates while a channel is idle: less than idle_silent_ticks."""
    seqno_request_ticks: Ticks = 5
    """Least time between two requests for a newer sequence number."""
    drain_ticks: Ticks = 100
    """A channel that has ended is kept for this long: its last frames are still on their way."""
    leave_ticks: Ticks = 30
    """A host that leaves feeds its children for this long at most, while they look for other parents."""
    flowing_ticks: Ticks = 15
    """After media has arrived without a pause for this long, children should receive it too; path updates report it."""
    rate_s: Annotated[float, Meta(gt=0)] = 2.0
    """A channel's rate is measured over at least this time, s: several groups of video."""
    rate_gain: Gain = 1 / 4
    """Gain of the smoothed rate."""
    feasibility_max: Count = 1024
    """Maximum number of channels whose feasibility distance is stored, also after the host no longer carries them."""
    idle_ticks: Ticks = 15
    """After this time without media a channel is idle."""
    idle_silent_ticks: Ticks = 10
    """Silence after which the parent of an idle channel, which sends no media, is declared dead: one heartbeat."""
    stale_ticks: Ticks = 20
    """A parent that has lost its own parent, and finds no other for this long, counts as lost."""
    stale_fed_ticks: Ticks = 60
    """So does one that sends no newer sequence number for this long: three path updates have not come."""
    stalled_ticks: Ticks = 15
    """A parent that receives media without a pause, none of which arrives here for this long, counts as lost."""
    repair_ticks: Ticks = 100
    """After this time without a parent the stream is given up: hosts cut off for seconds must be dialled first."""
    pull_ticks: Ticks = 40
    """A new parent whose media does not arrive within this time counts as lost."""
    report_ticks: Ticks = 50
    """Period at which the state of a local subscription is reported to the directory."""
    rejected_ticks: Ticks = 600
    """A parent that sent what the publisher has not is not asked again for this long, nor is a host below it. The fault may
    be further up, so it is not for good."""
    rejected_max: Count = 64
    """Maximum number of pairs of channel and host stored for that: bounds memory."""
    blame_ticks: Ticks = 10
    """For this long after a change of parents the new one is not blamed for what arrives: it may be left of the former one."""
    relative_links: Count = 6
    """Maximum number of links kept to relatives, so that one of them can become the parent at once."""


class SearchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Searches for a parent (search)."""

    tries: Count = 24
    """Maximum number of requests of one search over the cube: bounds its messages, whatever the size of the cube."""
    direct_max: Count = 12
    """Maximum number of hosts known to carry the channel that one search asks directly."""
    search_ticks: Ticks = 50
    """After this a subscriber decides on the best offer so far."""
    change_ticks: Ticks = 12
    """Longest duration of a change of parents: until it ends, this host forwards no newer sequence numbers, so its subtree
    gets none."""
    offer_ticks: Ticks = 70
    """An offer that is not committed to expires after this; longer than a search."""
    park_ticks: Ticks = 6
    """Longest time for which a host that is asked to attach another waits for a sequence number that rules out a loop."""
    answer_ticks: Ticks = 2
    """Time for an answer to Attach, beyond the round trip."""
    probe_ticks: Ticks = 15
    """Longest time for which a new subscriber measures the parents that the directory proposed."""
    probe_samples: Count = 2
    """Samples of a proposed parent's link that are needed before it is asked."""
    doubt_ticks: Ticks = 3
    """A host that a search waits for is pinged once nothing has come from it for this long."""
    silent_ticks: Ticks = 10
    """A search continues without the host it waits for when its pings have no answer for this long, beyond the round trip."""
    shun_ticks: Ticks = 5
    """A parent that was lost is not asked to be the parent again for this long."""
    retry_ticks: Ticks = 3
    """A repair that found no parent is tried again after this."""
    relocations_max: Count = 3
    """Maximum number of times that one search asks the directory for a better label."""
    settle_ticks: Ticks = 20
    """Pause of a search after a relocation: the links to the new neighbours are measured first."""
    join_ticks: Ticks = 50
    """A subscriber begins no further round after this, so that it has an answer within about 5 s live."""
    crowd_ticks: Ticks = 150
    """The same while more and more hosts carry the channel: with a fan-out of 1, sixteen subscribers that come at once are
    admitted one after the other."""
    crowd_rounds: Count = 3
    """Rounds without another host that carries the channel after which a subscriber no longer waits for others."""
    rounds_max: Count = 8
    """Maximum number of times that one search asks the directory for routes."""
    late_routes: Count = 2
    """Routes that are asked although they are expected to be too late: one of them is the counter-offer."""
    route_ticks: Ticks = 10
    """Longest time for which a host on a route measures its link to the next one."""
    resolve_ticks: Ticks = 5
    """A channel whose search was refused for a transient reason is resolved again after this."""
    resolves_max: Count = 6
    """Maximum number of such repetitions in one search."""
    searches_max: Count = 1024
    """Maximum number of searches under way, those for other hosts included; more are refused."""


class StandbyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Standby parents (optimise.standby)."""

    look_ticks: Ticks = 5
    """Period at which each channel's standby is checked."""
    wait_ticks: Ticks = 60
    """A standby whose session does not open within this time is replaced."""
    shun_ticks: Ticks = 40
    """A host that refused or failed as standby is not asked again for this long."""
    shunned_max: Count = 64
    """Maximum number of pairs of channel and host stored for that: bounds memory."""


class SwitchingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Switching to better parents (optimise.switching)."""

    look_ticks: Ticks = 2
    """Period at which candidates are compared with the parent."""
    gain_ms: Milliseconds = 10.0
    """Least gain worth a switch; smaller ones are within the noise of the estimates (docs/decisions/0010)."""
    gain_share: Gain = 0.1
    """Least gain as a share of the delay now."""
    variation_max_ms: Milliseconds = 20.0
    """Greatest variation of the parent's link that counts as noise: a link whose delay has jumped varies more, and should
    be left."""
    broken_gain_ms: Milliseconds = 2.0
    """Least gain while the bound is broken."""
    hold_ticks: Ticks = 24
    """Time for which a gain just at the threshold must last before the switch; a larger gain must last proportionally
    less."""
    hold_ticks_min: Ticks = 8
    """Time for which any gain must last."""
    return_ticks: Ticks = 60
    """Time for which a gain by a former parent must last: with less, hosts alternate between two parents."""
    left_max: Count = 16
    """Maximum number of former parents stored for that, per channel."""
    cube_ticks: Ticks = 40
    """Period at which a path over the cube is searched while the bound is broken and no known host is better."""
    advice_ticks: Ticks = 30
    """The directory's advice is tried for this long."""
    advice_samples: Count = 3
    """Samples of the advised parent's link that are needed before it is asked."""
    slower_ms: Milliseconds = 20.0
    """Increase of the delay that ends rest_ticks early."""
    settle_ticks: Ticks = 50
    """Least time between two switches unless the bound is broken: several in a row can break a track."""
    rest_ticks: Ticks = 100
    """After it has followed advice, a host switches on its own only after this, so that the directory can complete its
    plan."""


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
        """Longest time for which a stream without a parent waits for a new one, s."""
        return self.tree.repair_ticks * self.tick_s

    @property
    def leave_s(self) -> float:
        """Longest time for which a host that leaves feeds its children, s."""
        return self.tree.leave_ticks * self.tick_s

    @property
    def drain_s(self) -> float:
        """Time for which a channel that has ended is kept, s."""
        return self.tree.drain_ticks * self.tick_s


DEFAULT = EngineConfig()
"""The values a host runs with unless it is given others."""
