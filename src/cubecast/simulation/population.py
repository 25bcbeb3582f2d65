"""The hosts of a run: they start, publish, subscribe, and subscribe again when they were refused or lost their stream."""

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import HostRecord
from cubecast.overlay.cube import label_count
from cubecast.simulation.shells.host import address_of, key_of
from cubecast.simulation.shells.jobs import ProcessingOffer
from cubecast.simulation.shells.subscribers import LocalSubscriber
from cubecast.simulation.simulated_run import SimulatedRun, Subscription
from cubecast.types import ChannelName, HostId, Label

AGAIN_S = 5.0
"""Time after which a subscriber that was refused or lost its stream asks again, s: about what a person takes to notice it."""


def channel_name(number: int) -> ChannelName:
    """The name of a channel that a publisher captures."""
    return ChannelName(f"c{number}")


def derived_name(number: int) -> ChannelName:
    """The name of a derived channel."""
    return ChannelName(f"d{number}")


def populate(run: SimulatedRun) -> None:
    """All hosts start at once, as after a restart of the super-node; then publishers publish and subscribers ask."""
    overlay, scenario = run.overlay, run.scenario
    hosts = [HostId(f"h{i:05d}") for i in range(scenario.hosts)]
    seats = run.rng.permutation(label_count(overlay.directory.cube))
    if scenario.hidden:
        overlay.hidden = {host for host in hosts[scenario.channels :] if run.rng.random() < scenario.hidden}
    records = [
        HostRecord(
            host,
            address_of(i),
            "f" * 64,
            key_of(host),
            Label(int(seats[i])),
            scenario.fan_out,
            host not in overlay.hidden,
        )
        for i, host in enumerate(hosts)
    ]
    overlay.supernode.restore(records)
    for index, host in enumerate(hosts):
        overlay.join(host, index, scenario.fan_out, processing=_processing(run))
    run.publishers = hosts[: scenario.channels]
    for number, host in enumerate(run.publishers):
        publish = ev.PublishRequested(channel_name(number), scenario.tree)
        overlay.queue.after(0.1 * scenario.warm_s, overlay.handle, host, publish)
    for host in hosts[scenario.channels :]:
        if run.rng.random() < scenario.subscribers:
            at = float(run.rng.uniform(0.3, 0.9)) * scenario.warm_s
            overlay.queue.after(at, _subscribe, run, host)


def add_newcomer(run: SimulatedRun) -> None:
    """A new host joins at a free row of the delay matrix; it waits while there is none."""
    if not run.places:
        run.queueing += 1
        return
    overlay = run.overlay
    run.newcomers += 1
    host = HostId(f"n{run.newcomers:05d}")
    if run.scenario.hidden and run.rng.random() < run.scenario.hidden:
        overlay.hidden.add(host)
    overlay.join(host, run.places.pop(0), run.scenario.fan_out, processing=_processing(run))
    if run.rng.random() < run.scenario.subscribers:
        overlay.queue.after(5 * run.scenario.tick_s, _subscribe, run, host)


def _processing(run: SimulatedRun) -> ProcessingOffer:
    """The processing that the next host offers to others."""
    scenario = run.scenario
    if not scenario.jobs or run.jobs_rng.random() >= scenario.willing:
        return ProcessingOffer()
    return ProcessingOffer(scenario.process_slots, lambda: float(run.jobs_rng.uniform(*scenario.processing_ms)))


def _subscribe(run: SimulatedRun, host: HostId) -> None:
    scenario = run.scenario
    number = int(run.rng.integers(scenario.channels + scenario.jobs))
    channel = channel_name(number) if number < scenario.channels else derived_name(number - scenario.channels)
    subscriber = LocalSubscriber(channel, Contract(float(run.rng.uniform(*scenario.bound_ms))))
    run.subscriptions[host] = Subscription(subscriber, run.overlay.now)
    _ask(run, host)
    run.overlay.queue.after(AGAIN_S, _ask_again, run, host, 0)


def _ask(run: SimulatedRun, host: HostId) -> None:
    run.overlay.hosts[host].subscribers.ask(run.subscriptions[host].subscriber)


def _ask_again(run: SimulatedRun, host: HostId, seen: int) -> None:
    """Asks again, as a person would, if the subscriber was refused or lost its stream."""
    outcomes = run.subscriptions[host].subscriber.outcomes
    if not run.overlay.hosts[host].alive:
        return
    new = outcomes[seen:]
    run.streams_ended += sum(isinstance(outcome, fx.StreamEnded) for outcome in new)
    if new and not isinstance(new[-1], fx.Admitted):
        _ask(run, host)
    run.overlay.queue.after(AGAIN_S, _ask_again, run, host, len(outcomes))
