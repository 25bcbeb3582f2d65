"""The faults of a run: hosts leave and crash, partitions, and outages of the super-node."""

import numpy as np

from cubecast.simulation.population import add_newcomer
from cubecast.simulation.simulated_run import SimulatedRun

RECONNECT_CHECK_S = 0.02
"""Time between two checks whether cut streams flow again, s: the resolution of the measured times to reconnect."""


def schedule_faults(run: SimulatedRun) -> None:
    """Schedules all faults of the scenario, counted from now."""
    scenario, queue, supernode = run.scenario, run.overlay.queue, run.overlay.supernode
    changes = round(scenario.churn.share * scenario.hosts)
    for at in np.sort(run.rng.uniform(0, scenario.seconds, changes)):
        queue.after(float(at), _remove_host, run)
    for at in np.sort(run.rng.uniform(0, scenario.seconds, changes)):
        queue.after(float(at), add_newcomer, run)
    for partition in scenario.partitions:
        queue.after(partition.at_s, _cut_off, run, partition.share)
        queue.after(partition.at_s + partition.for_s, _cut_off, run, 0.0)
    for outage in scenario.directory_outages:
        queue.after(outage.at_s, supernode.stop)
        queue.after(outage.at_s + outage.for_s, supernode.restart)


def _remove_host(run: SimulatedRun) -> None:
    """One host leaves or crashes; publishers stay."""
    overlay = run.overlay
    stay = {*run.publishers, *run.leaving}
    candidates = [host for host, here in overlay.hosts.items() if here.alive and host not in stay]
    if not candidates:
        return
    host = candidates[int(run.rng.integers(len(candidates)))]
    run.leaving.add(host)
    run.places.append(overlay.hosts[host].index)
    if run.queueing:
        run.queueing -= 1
        add_newcomer(run)
    if run.rng.random() >= run.scenario.churn.crashes:
        overlay.leave(host)
        return
    receiving = [each for each in run.living_subscribers() if each != host and run.flows(each)]
    overlay.crash(host)
    for each in receiving:
        if not run.flows(each):
            run.cut.setdefault(each, overlay.now)
    if run.cut and not run.watching_cuts:
        run.watching_cuts = True
        overlay.queue.after(RECONNECT_CHECK_S, _watch_cuts, run)


def _watch_cuts(run: SimulatedRun) -> None:
    """Records which cut streams flow again; runs repeatedly until all do."""
    overlay = run.overlay
    for host, since in list(run.cut.items()):
        if not overlay.hosts[host].alive:
            del run.cut[host]
        elif run.flows(host):
            run.reconnect_s.append(overlay.now - since)
            del run.cut[host]
    run.watching_cuts = bool(run.cut)
    if run.watching_cuts:
        overlay.queue.after(RECONNECT_CHECK_S, _watch_cuts, run)


def _cut_off(run: SimulatedRun, share: float) -> None:
    """Cuts a share of the hosts off, publishers excepted; a share of 0 ends the partition."""
    candidates = [host for host, here in run.overlay.hosts.items() if here.alive and host not in run.publishers]
    chosen = run.rng.permutation(len(candidates))[: round(share * len(candidates))]
    run.overlay.island = {candidates[int(index)] for index in chosen}
