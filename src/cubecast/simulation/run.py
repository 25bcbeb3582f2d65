"""Runs a scenario with a seed: the same of both gives the same run, event by event."""

import gc
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter

import numpy as np
from msgspec import structs

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import HostRecord
from cubecast.overlay.cube import label_count
from cubecast.overlay.region import live_region
from cubecast.physical.catalogue import load_network
from cubecast.simulation.invariants import Parents, broken_at, broken_labels, forgotten, hangs
from cubecast.simulation.overlay import SimulatedHost, SimulatedOverlay, address_of
from cubecast.simulation.scenario import Scenario
from cubecast.types import ChannelName, HostId, Label

SAMPLE_S = 5.0
AGAIN_S = 5.0
"""Whoever was refused or lost its stream asks again after so long."""
BROKEN_MAX = 100
"""Broken laws that are kept."""
RECONNECT_LOOK_S = 0.02
HUNG_TICKS = DEFAULT.tree.repair_ticks + 60
"""Whose stream was cut knows by then that it flows again, or that it is over."""
SETTLED_S = 15.0
"""Subscribers count once they have been there so long."""

_WHOM: dict[type, Callable[[fx.Effect], object]] = {
    **dict.fromkeys((fx.Send, fx.HangUp, fx.Rouse, fx.Evict, fx.StopPull, fx.Suspect), attrgetter("host")),
    **dict.fromkeys((fx.Dial, fx.Pull, fx.Push, fx.Prepare), attrgetter("record.host")),
    fx.ParentChanged: attrgetter("after"),
}
"""The host an effect concerns, for those that concern one."""


@dataclass(slots=True)
class SimulationResult:
    """What came of one seed.

    Attributes:
        digest: of the trace: every event of every host, and what it answered.
        success_ratio: subscribers that media reaches by a path that promises their bound, over subscribers there, mean
            over time; None when nobody subscribed for long enough.
        reconnect_ms: p50 and p99 of the time from the crash of a host above until media flows again; None without any.
        events: events that engines handled.
    """

    seed: int
    digest: str
    invariants_broken: list[str]
    success_ratio: float | None
    reconnect_ms: dict[str, float | None]
    events: int
    events_per_second: float
    reconnects: int
    never_reconnected: int
    """Streams that a crash had cut and that were still cut in the end."""
    changes: int
    streams_ended: int
    messages: int


@dataclass(slots=True)
class Wish:
    """One subscriber."""

    channel: ChannelName
    bound_ms: float
    since: float
    asked: int = 0


@dataclass(slots=True)
class Simulation:
    """One run."""

    scenario: Scenario
    seed: int
    overlay: SimulatedOverlay
    rng: np.random.Generator
    wishes: dict[HostId, Wish] = field(default_factory=dict)
    publishers: list[HostId] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    """Places of the delay matrix nobody has."""
    cut: dict[HostId, float] = field(default_factory=dict)
    """Subscribers whose stream a crash has cut, and when."""
    deaf: dict[HostId, float] = field(default_factory=dict)
    """Subscribers that believe they receive and do not, and since when."""
    reconnect_s: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    looking: bool = False
    """Somebody looks whose stream flows again."""
    going: set[HostId] = field(default_factory=set)
    """Hosts that leave, or have left."""
    newcomers: int = 0
    queueing: int = 0
    """Newcomers that wait for a place."""
    ended: int = 0


def simulate(scenario: Scenario, seed: int) -> SimulationResult:
    """Runs a scenario.

    Raises:
        UsageError: the network is not known.
        NetworkFileError: its file cannot be read.
    """
    spare = max(1, scenario.hosts // 20)
    network = load_network(scenario.network, scenario.hosts + spare, seed)
    cube = live_region(scenario.hosts + spare)
    overlay = SimulatedOverlay(
        network.matrix_ms(),
        cube,
        scenario.policy,
        seed,
        structs.replace(scenario.engine, tick_s=scenario.tick_s),
        wire=False,
    )
    overlay.loss = scenario.loss
    run = Simulation(scenario, seed, overlay, np.random.default_rng([seed, 64]))
    run.places = list(range(scenario.hosts, scenario.hosts + spare))
    digest = hashlib.blake2b(digest_size=16)

    def trace(here: SimulatedHost, event: ev.Event, effects: list[fx.Effect]) -> None:
        names = " ".join([f"{type(effect).__name__} {_whom(effect)}" for effect in effects])
        digest.update(f"{overlay.queue.now:.6f} {here.host} {type(event).__name__} {names}\n".encode())

    parents: Parents = {}

    def check(here: SimulatedHost) -> None:
        for law in broken_at(overlay, here, parents):
            _note(run, law)

    def check_labels() -> None:
        for law in broken_labels(overlay.directory):
            _note(run, law)

    overlay.trace, overlay.check, overlay.check_directory = trace, check, check_labels
    _populate(run)
    begun = time.perf_counter()
    with _without_collector():
        overlay.run(scenario.warm_s)
        _schedule(run)
        overlay.run(scenario.seconds)
    took = time.perf_counter() - begun
    _look_for_forgotten(run)
    p50, p99 = (round(float(s) * 1000, 1) for s in np.percentile(run.reconnect_s or [np.nan], [50, 99]))
    return SimulationResult(
        seed=seed,
        digest=digest.hexdigest(),
        invariants_broken=run.broken,
        success_ratio=round(float(np.mean(run.ratios)), 4) if run.ratios else None,
        reconnect_ms={"p50": p50, "p99": p99} if run.reconnect_s else {"p50": None, "p99": None},
        events=overlay.engine_events,
        events_per_second=round(overlay.engine_events / took),
        reconnects=len(run.reconnect_s),
        never_reconnected=len(run.cut),
        changes=sum(here.changes for here in overlay.hosts.values()),
        streams_ended=run.ended,
        messages=overlay.messages,
    )


@contextmanager
def _without_collector() -> Iterator[None]:
    """Engines throw nothing away that is part of a cycle, and to look for cycles takes a sixth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _whom(effect: fx.Effect) -> object:
    find = _WHOM.get(type(effect))
    return find(effect) if find is not None else ""


def _note(run: Simulation, law: str) -> None:
    if len(run.broken) < BROKEN_MAX:
        run.broken.append(f"{run.overlay.now:.3f} {law}")


def _populate(run: Simulation) -> None:
    """Everyone is there at once, as after a restart of the directory; then publishers publish, subscribers ask."""
    overlay, scenario = run.overlay, run.scenario
    hosts = [HostId(f"h{i:05d}") for i in range(scenario.hosts)]
    seats = run.rng.permutation(label_count(overlay.directory.cube))
    if scenario.hidden:
        overlay.hidden = {host for host in hosts[scenario.channels :] if run.rng.random() < scenario.hidden}
    records = [
        HostRecord(
            host, address_of(i), "f" * 64, host, Label(int(seats[i])), scenario.fan_out, host not in overlay.hidden
        )
        for i, host in enumerate(hosts)
    ]
    overlay.directory.restore((overlay.directory.cube, 0), records, (), overlay.now)
    for index, host in enumerate(hosts):
        overlay.join(host, index, scenario.fan_out)
    run.publishers = hosts[: scenario.channels]
    for number, host in enumerate(run.publishers):
        publish = ev.PublishRequested(ChannelName(f"c{number}"), scenario.tree)
        overlay.queue.after(0.1 * scenario.warm_s, overlay.handle, host, publish)
    for host in hosts[scenario.channels :]:
        if run.rng.random() < scenario.subscribers:
            at = float(run.rng.uniform(0.3, 0.9)) * scenario.warm_s
            overlay.queue.after(at, _wish, run, host)


def _wish(run: Simulation, host: HostId) -> None:
    channel = ChannelName(f"c{int(run.rng.integers(run.scenario.channels))}")
    run.wishes[host] = Wish(channel, float(run.rng.uniform(*run.scenario.bound_ms)), run.overlay.now)
    _ask(run, host)
    run.overlay.queue.after(AGAIN_S, _look_after, run, host, 0)


def _ask(run: Simulation, host: HostId) -> None:
    wish = run.wishes[host]
    wish.asked += 1
    run.overlay.handle(host, ev.SubscribeRequested(wish.channel, Contract(wish.bound_ms)))


def _look_after(run: Simulation, host: HostId, seen: int) -> None:
    """As a user would: whoever was refused, or lost its stream, asks again."""
    here = run.overlay.hosts[host]
    if not here.alive:
        return
    new = here.outcomes[seen:]
    lost = sum(isinstance(outcome, fx.StreamEnded) for outcome in new)
    run.ended += lost
    if new and not isinstance(new[-1], fx.Admitted):
        _ask(run, host)
    run.overlay.queue.after(AGAIN_S, _look_after, run, host, len(here.outcomes))


def _schedule(run: Simulation) -> None:
    """Churn, partitions and samples, from now on."""
    scenario, queue = run.scenario, run.overlay.queue
    changes = round(scenario.churn.share * scenario.hosts)
    for at in np.sort(run.rng.uniform(0, scenario.seconds, changes)):
        queue.after(float(at), _leave, run)
    for at in np.sort(run.rng.uniform(0, scenario.seconds, changes)):
        queue.after(float(at), _join, run)
    for partition in scenario.partitions:
        queue.after(partition.at_s, _cut_off, run, partition.share)
        queue.after(partition.at_s + partition.for_s, _cut_off, run, 0.0)
    queue.after(SAMPLE_S, _sample, run)


def _leave(run: Simulation) -> None:
    """One host goes; publishers stay."""
    overlay = run.overlay
    stay = {*run.publishers, *run.going}
    there = [host for host, here in overlay.hosts.items() if here.alive and host not in stay]
    if not there:
        return
    host = there[int(run.rng.integers(len(there)))]
    run.going.add(host)
    run.places.append(overlay.hosts[host].index)
    if run.queueing:
        run.queueing -= 1
        _join(run)
    if run.rng.random() >= run.scenario.churn.crashes:
        overlay.leave(host)
        return
    before = [each for each in _subscribers(run) if each != host and overlay.flows(each, run.wishes[each].channel)]
    overlay.crash(host)
    for each in before:
        if not overlay.flows(each, run.wishes[each].channel):
            run.cut.setdefault(each, overlay.now)
    if run.cut and not run.looking:
        run.looking = True
        overlay.queue.after(RECONNECT_LOOK_S, _reconnected, run)


def _reconnected(run: Simulation) -> None:
    """Looks whose stream flows again; as long as some do not."""
    overlay = run.overlay
    for host, since in list(run.cut.items()):
        if not overlay.hosts[host].alive:
            del run.cut[host]
        elif overlay.flows(host, run.wishes[host].channel):
            run.reconnect_s.append(overlay.now - since)
            del run.cut[host]
    run.looking = bool(run.cut)
    if run.looking:
        overlay.queue.after(RECONNECT_LOOK_S, _reconnected, run)


def _join(run: Simulation) -> None:
    """A newcomer at a place nobody has; while there is none it waits."""
    if not run.places:
        run.queueing += 1
        return
    overlay = run.overlay
    run.newcomers += 1
    host = HostId(f"n{run.newcomers:05d}")
    if run.scenario.hidden and run.rng.random() < run.scenario.hidden:
        overlay.hidden.add(host)
    overlay.join(host, run.places.pop(0), run.scenario.fan_out)
    if run.rng.random() < run.scenario.subscribers:
        overlay.queue.after(5 * run.scenario.tick_s, _wish, run, host)


def _cut_off(run: Simulation, share: float) -> None:
    """A share of the hosts, without the publishers, is an island; none heals the network."""
    there = [host for host, here in run.overlay.hosts.items() if here.alive and host not in run.publishers]
    chosen = run.rng.permutation(len(there))[: round(share * len(there))]
    run.overlay.island = {there[int(index)] for index in chosen}


def _subscribers(run: Simulation) -> list[HostId]:
    return [host for host in run.wishes if run.overlay.hosts[host].alive]


def _sample(run: Simulation) -> None:
    """Who is served now; and whether the directory's labels are in order."""
    overlay = run.overlay
    due = [host for host in _subscribers(run) if overlay.now - run.wishes[host].since >= SETTLED_S]
    served = 0
    for host in due:
        wish, metrics = run.wishes[host], overlay.hosts[host].engine.metrics(run.wishes[host].channel)
        kept = metrics is not None and metrics.least_bound_ms <= wish.bound_ms
        served += kept and overlay.flows(host, wish.channel)
    if due:
        run.ratios.append(served / len(due))
    _look_for_forgotten(run)
    overlay.queue.after(SAMPLE_S, _sample, run)


def _look_for_forgotten(run: Simulation) -> None:
    """Whether everyone who asked, and means to stay, is looked after."""
    overlay, patience_s = run.overlay, HUNG_TICKS * run.scenario.tick_s
    for host, wish in run.wishes.items():
        here = overlay.hosts[host]
        if not here.alive or host in run.going:
            continue
        if forgotten(here, wish.channel, wish.asked):
            _note(run, f"{host}: was forgotten")
        if not hangs(overlay, host, wish.channel):
            run.deaf.pop(host, None)
        elif (dead_s := overlay.now - run.deaf.setdefault(host, overlay.now)) > patience_s:
            _note(run, f"{host}: its stream has been dead for {dead_s:.0f} s, and it was not told")
            del run.deaf[host]  # and counts anew
