"""The numbers that govern the directory, by component, each with its unit and its reason.

msgspec structs and not dataclasses: only those refuse unknown fields when `msgspec.convert` reads one from a dict, as a
scenario file gives it. They are as frozen and as slotted. A value outside its range raises UsageError.
"""

from enum import StrEnum

import msgspec

from cubecast.engine.protocol.messages import ROUTE_MAX
from cubecast.errors import UsageError

SECONDS_MAX = 86_400.0
"""Greatest duration any field may have, s: one day."""
SPREAD_MS_MAX = 1e4
"""Maximum of a tunable in milliseconds."""
COUNT_MAX = 1 << 20
"""Greatest count any field may have; far above what one super-node can handle."""
RELOCATION_DEPTH_MAX = 16
"""Greatest relocation depth, hops: the largest live hypercube, 2^17, has a diameter of 17 hops."""


class RelocationForm(StrEnum):
    """Which hosts a subscriber may change seats with, within a depth.

    - breadth-first: of the hosts at 1, 2, .. hops from the publisher, the farthest host of the first ring that has one
      farther from the publisher than the subscriber is.
    - published: the slides' recursion, which continues around the farthest neighbour.
    - off: none.
    """

    BREADTH_FIRST = "breadth-first"
    PUBLISHED = "published"
    OFF = "off"


def _check(config: msgspec.Struct, least: float, most: float, *names: str) -> None:
    """Checks that fields are within a range.

    Raises:
        UsageError: one is not; the message names it.
    """
    for name in names:
        value = getattr(config, name)
        if not least <= value <= most:
            raise UsageError(f"{type(config).__name__}.{name} is {value}; it must be between {least:g} and {most:g}")


class LeaseConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a silent host is removed."""

    lease_s: float = 6.0
    """A host that has not refreshed for this long is removed, s: three of the refreshes that hosts send every 2 s."""
    suspect_lease_s: float = 3.5
    """The same for a host that a neighbour reports as silent, s: longer than one refresh interval of 2 s, so that a live
    host still refreshes in time."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        _check(self, 0, SECONDS_MAX, "lease_s", "suspect_lease_s")
        if self.suspect_lease_s > self.lease_s:
            raise UsageError("LeaseConfig.suspect_lease_s must not be greater than lease_s")


class ShapeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the cube follows the number of hosts."""

    labels_max: int = 1 << 17
    """Maximum number of labels of a live cube: every change of its shape visits all labels, so a larger cube would delay
    the super-node's other requests."""
    shrink_after_s: float = 10.0
    """The cube shrinks after a smaller shape has been enough for this long, s: hosts that leave may come back."""
    spare_share: float = 0.25
    """Minimum of spare seats after a change of shape, as a share of the hosts: with none spare, 217, 244 and 257 hosts would
    each change the shape again, and every change gives all hosts new neighbours."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        _check(self, 1, COUNT_MAX, "labels_max")
        _check(self, 0, SECONDS_MAX, "shrink_after_s")
        _check(self, 0, 1, "spare_share")


class ChannelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits on channels and on subscription reports."""

    channels_per_host_max: int = 256
    """Maximum number of channels one host may publish: bounds the directory's memory and store."""
    subscriptions_per_host_max: int = 1024
    """Maximum number of subscriptions stored for one host: bounds the directory's memory."""
    proposals_max: int = 8
    """Maximum number of possible parents proposed to a new subscriber, which probes all of them at once."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        _check(self, 0, COUNT_MAX, "channels_per_host_max", "subscriptions_per_host_max", "proposals_max")


class DelayTableConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How delays between hosts are measured and smoothed."""

    links_per_report_max: int = 256
    """Maximum number of links accepted in one report of a host: bounds the table's memory."""
    expiry_s: float = 300.0
    """A measurement older than this is requested again, s."""
    probes_per_request_max: int = 3
    """Maximum number of hosts that one host is asked to measure at a time: each probe is a handshake."""
    retry_after_s: float = 5.0
    """A pair that was requested but not reported is requested again after this, s."""
    requests_max: int = 3
    """After this many requests without a report a pair counts as not measurable."""
    increase_gain: float = 1 / 8
    """Weight of a new, longer delay against the stored one, 0 to 1. A shorter delay replaces the stored one at once: a
    busy machine makes round trips longer for a moment, and never shorter."""
    increase_window_s: float = 10.0
    """`increase_gain` applies to a report at most this long after the previous one, s; later the new delay is taken as it
    is."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        _check(self, 0, COUNT_MAX, "links_per_report_max")
        _check(self, 1, COUNT_MAX, "probes_per_request_max", "requests_max")
        _check(self, 0, SECONDS_MAX, "expiry_s", "retry_after_s", "increase_window_s")
        _check(self, 0, 1, "increase_gain")


class PlannerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How hybrid trees are planned and carried out (docs/decisions/0011)."""

    group_max: int = 256
    """Maximum number of hosts of a tree that is planned: 128 hosts take 0.2 s of the super-node (docs/decisions/0011).
    Hosts of larger groups join as the directory proposes and improve by themselves."""
    replan_after_s: float = 15.0
    """A group that stays the same is planned again after this, s."""
    settle_s: float = 2.0
    """A group that has changed is planned after it has stayed the same for this long, s."""
    survey_timeout_s: float = 60.0
    """A survey whose measurements are not complete after this is dropped, s."""
    advice_timeout_s: float = 9.0
    """Advice that a host has not followed after this is dropped, s: a host that has just changed its parent waits 5 s
    before it changes again, then tries the advice for 3 s."""
    moves_min: int = 2
    """At least this many hosts of a group may change parents at a time, whatever `moves_share` gives."""
    moves_share: float = 0.125
    """Share of a group that may change parents at a time, 0 to 1. A move is a handshake or two and hosts may share a
    machine: 30 moves within 1 s kept two cores busy until parents counted as dead (docs/decisions/0011)."""
    plan_timeout_s: float = 80.0
    """A plan that is not carried out after this is dropped, s."""
    gain_min: float = 0.03
    """Least share by which a plan must reduce the mean delay, 0 to 1; a smaller gain is within the jitter of delays."""
    gain_min_again: float = 0.15
    """The same for a group that has been planned before: two measurements of one delay differ, so hosts would otherwise
    move for ever."""
    survey_rounds_max: int = 200
    """Maximum number of rounds of a survey answered from stored delays in one lease tick; more would delay the
    super-node's other requests."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        _check(self, 0, COUNT_MAX, "group_max")
        _check(self, 1, COUNT_MAX, "moves_min", "survey_rounds_max")
        _check(self, 0, 1, "moves_share", "gain_min", "gain_min_again")
        _check(
            self, 0, SECONDS_MAX, "replan_after_s", "settle_s", "survey_timeout_s", "advice_timeout_s", "plan_timeout_s"
        )


class RelocationConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How subscribers over the cube change seats (docs/decisions/0014)."""

    form: RelocationForm = RelocationForm.BREADTH_FIRST
    """Which hosts a subscriber may change seats with; breadth-first admits most at every size (docs/lab/relocation.md)."""
    depth: int = 2
    """Hops around the publisher within which seats are considered: at 1024 subscribers depth 2 gains 10.3 points of success
    ratio, depth 4 18.2 (docs/lab/relocation.md)."""
    hosts_max: int = 1024
    """Maximum number of hosts of an overlay in which seats are changed: computing all paths over a larger one would delay
    the super-node's other requests."""
    subscribers_max: int = 256
    """Maximum number of subscriptions over the cube, the one that asks included, for the same reason."""
    check_interval_s: float = 30.0
    """A subscriber whose bound is not kept is considered for another seat at most once in this time, s: its neighbours'
    links are dialled anew after each change."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        _check(self, 1, RELOCATION_DEPTH_MAX, "depth")
        _check(self, 0, COUNT_MAX, "hosts_max", "subscribers_max")
        _check(self, 0, SECONDS_MAX, "check_interval_s")


class JobsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How jobs are kept and placed (docs/decisions/0017)."""

    lease_s: float = 10.0
    """A job that its owner has not requested for this long ends, s; owners repeat the request every 2 s."""
    jobs_max: int = 1024
    """Maximum number of jobs: bounds the directory's memory and the work of a lease tick."""
    jobs_per_host_max: int = 64
    """Maximum number of jobs of one host, whatever number of instances it is willing to run: they may share one."""
    retry_after_s: float = 2.0
    """A job for which no host was found is tried again after this, s."""
    avoid_s: float = 60.0
    """A host at which a job failed is not chosen for that job again for this long, s."""
    failures_max: int = 3
    """After this many failures, with no success between them, a job that may run anywhere is given up."""
    consumer_s: float = 30.0
    """A host that requested a channel before it was announced counts as a consumer of it for this long, s."""
    consumers_max: int = 1024
    """Maximum number of such requests stored, over all channels: bounds the directory's memory."""
    sites_max: int = 256
    """Maximum number of hosts, of consumers and of sources considered in one choice: its cost grows with their product."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        _check(self, 0, SECONDS_MAX, "lease_s", "retry_after_s", "avoid_s", "consumer_s")
        _check(self, 0, COUNT_MAX, "jobs_max", "jobs_per_host_max", "consumers_max")
        _check(self, 1, COUNT_MAX, "failures_max", "sites_max")


class RoutesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How routes over hosts that do not carry a channel yet are found (docs/search.md)."""

    sites_max: int = 128
    """Maximum number of hosts considered for one request: its cost grows with their square."""
    routes_max: int = 8
    """Maximum number of routes in one answer; a subscriber asks for the best few."""
    hops_max: int = 6
    """Maximum number of hosts after the first of a route: each adds a handshake to the time of the admission."""
    probes_max: int = 24
    """Maximum number of hosts that a subscriber is given to measure: each is a handshake."""
    links_per_idle_host: int = 2
    """Links to the tree that are measured for one idle host, those with the least delay by coordinates."""
    links_max: int = 32
    """Maximum number of links that are measured for one request."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        _check(self, 0, COUNT_MAX, "sites_max", "routes_max", "probes_max", "links_per_idle_host", "links_max")
        _check(self, 0, ROUTE_MAX, "hops_max")


class DisplacementConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How children of full hosts are moved for a subscriber whose bound only those hosts keep (docs/search.md)."""

    follow_s: float = 3.0
    """Advice that the child has not followed after this counts as refused, s: it measures the link, then changes."""
    route_rounds: int = 2
    """Number of requests of a subscriber during which no child is moved, if links are measured that may give it a route."""
    moves_max: int = 3
    """Maximum number of moves that are advised in vain for one subscriber."""
    links_max: int = 8
    """Maximum number of links that children of full hosts are asked to measure for one request."""
    probes_max: int = 4
    """Maximum number of full hosts that a subscriber is given to measure: those with the least delay by coordinates."""
    spread_ms: float = 2.0
    """What a hop adds to the least bound of a path beside its delay, ms: EstimateConfig.spread_ms_min of the hosts."""
    expiry_s: float = 30.0
    """What was tried for a subscriber is forgotten once it has not asked for this long, s."""
    subscribers_max: int = 1024
    """Maximum number of subscribers for which that is stored: bounds the directory's memory."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        _check(self, 0, SECONDS_MAX, "follow_s", "expiry_s")
        _check(self, 0, SPREAD_MS_MAX, "spread_ms")
        _check(self, 0, COUNT_MAX, "route_rounds", "moves_max", "links_max", "probes_max", "subscribers_max")


class DirectoryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of them, by component."""

    lease: LeaseConfig = LeaseConfig()
    """When a silent host is removed."""
    shape: ShapeConfig = ShapeConfig()
    """How the cube follows the number of hosts."""
    channels: ChannelConfig = ChannelConfig()
    """Limits on channels and on subscription reports."""
    delay_table: DelayTableConfig = DelayTableConfig()
    """How delays between hosts are measured and smoothed."""
    planner: PlannerConfig = PlannerConfig()
    """How hybrid trees are planned and carried out."""
    relocation: RelocationConfig = RelocationConfig()
    """How subscribers over the cube change seats."""
    routes: RoutesConfig = RoutesConfig()
    """How routes over idle hosts are found."""
    displacement: DisplacementConfig = DisplacementConfig()
    """How children of full hosts are moved for newcomers."""
    jobs: JobsConfig = JobsConfig()
    """How jobs are kept and placed."""


DIRECTORY_DEFAULTS = DirectoryConfig()
"""The values a super-node runs with unless it is given others."""
