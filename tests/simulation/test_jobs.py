"""Derived channels in simulation: assigned to willing hosts, made there, moved when a host dies."""

from dataclasses import replace

import pytest

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.protocol.job_records import Job, JobStatus
from cubecast.engine.protocol.path import Contract
from cubecast.overlay.cube import Cube
from cubecast.simulation.shells.subscribers import LocalSubscriber
from cubecast.types import ChannelName, HostId
from tests.engine.in_memory import CHANNEL, Overlay, random_delays

DERIVED = ChannelName("half")
JOB = Job(DERIVED, CHANNEL, "me", "a" * 64, bound_ms=5000.0)
BOUND_MS = 5000.0
PROCESSING_MS = 40.0
RENEW_S = 2.0
MOVED_S = 40.0


class JobOverlay(Overlay):
    """Eight hosts; host 0 publishes. Jobs are renewed while time passes."""

    def __init__(self, slots: dict[int, int], seed: int = 4) -> None:
        super().__init__(random_delays(8, seed), Cube(2, 3), seed=seed, slots=slots, processing_ms=PROCESSING_MS)
        self.run(4.0)
        self.publish(0)
        self.run(1.0)

    def want(self, seconds: float, *jobs: Job) -> None:
        """Lets time pass while owners renew their jobs."""
        for _ in range(round(seconds / RENEW_S)):
            for job in jobs:
                self.supernode.want_job(job)
            self.run(RENEW_S)

    def makers(self, channel: ChannelName = DERIVED) -> list[HostId]:
        """Living hosts that run the job of a channel."""
        return [host for host in self.living() if self.hosts[host].jobs.source_of(channel) is not None]

    def status(self, channel: ChannelName = DERIVED) -> JobStatus:
        return self.directory.jobs.status(channel)


def test_a_job_runs_at_a_willing_host_and_its_channel_reaches_subscribers_with_the_processing_time() -> None:
    overlay = JobOverlay({3: 1})
    overlay.want(12.0, JOB)
    assert overlay.makers() == [overlay.names[3]]
    status = overlay.status()
    assert (status.host, status.state) == (overlay.names[3], "running")
    assert status.progress.processing_ms == PROCESSING_MS
    assert isinstance(overlay.subscribe(5, BOUND_MS, DERIVED), fx.Admitted)
    overlay.want(4.0, JOB)
    assert overlay.flows(overlay.names[5], DERIVED)
    source = overlay.engines[overlay.names[3]].metrics(CHANNEL)
    made = overlay.engines[overlay.names[3]].metrics(DERIVED)
    assert source is not None
    assert made is not None
    assert made.delay_ms == pytest.approx(source.delay_ms + PROCESSING_MS, abs=5)


def test_a_job_without_a_willing_host_waits() -> None:
    overlay = JobOverlay({})
    overlay.want(20.0, JOB)
    assert overlay.makers() == []
    assert overlay.status().state == "waiting"


def test_media_of_a_derived_channel_stops_with_its_source() -> None:
    overlay = JobOverlay({3: 1})
    overlay.want(12.0, JOB)
    assert isinstance(overlay.subscribe(5, BOUND_MS, DERIVED), fx.Admitted)
    overlay.want(4.0, JOB)
    overlay.hosts[overlay.names[3]].sessions[CHANNEL].clear()
    assert not overlay.flows(overlay.names[5], DERIVED)


def test_a_job_moves_when_its_host_crashes() -> None:
    overlay = JobOverlay({3: 1, 6: 1})
    overlay.want(12.0, JOB)
    (first,) = overlay.makers()
    overlay.crash(first)
    overlay.want(MOVED_S, JOB)
    (second,) = overlay.makers()
    assert second != first
    assert overlay.status().host == second


def test_a_job_that_nobody_wants_any_more_ends() -> None:
    overlay = JobOverlay({3: 1})
    overlay.want(12.0, JOB)
    overlay.supernode.end_job(JOB)
    overlay.run(4.0)
    assert overlay.makers() == []
    assert DERIVED not in overlay.directory.channels
    assert CHANNEL not in {branch.channel for branch in overlay.engines[overlay.names[3]].branches()}


def test_a_job_is_finished_when_its_source_ends() -> None:
    overlay = JobOverlay({3: 1})
    overlay.want(12.0, JOB)
    overlay.handle(overlay.names[0], ev.PublishFinished(CHANNEL))
    overlay.want(6.0, JOB)
    assert overlay.makers() == []
    assert overlay.status().state == "finished"


def test_a_host_runs_no_more_extensions_than_its_slots_and_one_for_jobs_that_share_it() -> None:
    overlay = JobOverlay({3: 1})
    same = replace(JOB, channel=ChannelName("same"))
    other = replace(JOB, channel=ChannelName("other"), extension="b" * 64)
    overlay.want(14.0, JOB, same, other)
    assert overlay.makers(DERIVED) == overlay.makers(same.channel) == [overlay.names[3]]
    assert overlay.makers(other.channel) == []


def test_a_job_shares_its_source_with_the_hosts_own_subscriber() -> None:
    overlay = JobOverlay({3: 1})
    here = overlay.hosts[overlay.names[3]]
    person = LocalSubscriber(CHANNEL, Contract(BOUND_MS))
    here.subscribers.ask(person)
    overlay.want(12.0, JOB)
    assert overlay.makers() == [here.host]
    overlay.supernode.end_job(JOB)
    overlay.run(4.0)
    assert person.admitted
    assert overlay.flows(here.host, CHANNEL), "the person's subscription goes on"


def test_after_a_restart_of_the_super_node_the_job_stays_and_its_channel_is_announced() -> None:
    overlay = JobOverlay({3: 1, 6: 1})
    overlay.want(12.0, JOB)
    before = overlay.makers()
    overlay.supernode.stop()
    overlay.want(10.0, JOB)
    assert overlay.makers() == before, "hosts go on without the super-node"
    engine = overlay.directory
    overlay.supernode.restart()
    assert overlay.directory is not engine
    assert set(overlay.directory.members) == set(overlay.names)
    assert set(overlay.directory.channels) == {CHANNEL, DERIVED}
    overlay.want(20.0, JOB)
    assert overlay.makers() == before
    assert (overlay.status().host, overlay.status().state) == (before[0], "running")
    assert set(overlay.directory.members) == set(overlay.names), "every host has renewed its lease"


def test_a_host_that_asks_for_a_channel_that_nobody_announces_is_recorded_as_a_consumer() -> None:
    overlay = JobOverlay({})
    assert isinstance(overlay.subscribe(5, BOUND_MS, DERIVED), fx.NotFound)
    assert overlay.directory.jobs.consumers(DERIVED, overlay.now) == [overlay.names[5]]


def test_a_consumer_takes_a_job_over_from_a_host_that_crashed_once_it_has_given_the_channel_up() -> None:
    overlay = JobOverlay({3: 1, 6: 1})
    overlay.want(12.0, JOB)
    (maker,) = overlay.makers()
    consumer = next(index for index in (3, 6) if overlay.names[index] != maker)
    assert isinstance(overlay.subscribe(consumer, BOUND_MS, DERIVED), fx.Admitted)
    overlay.crash(maker)
    overlay.want(DEFAULT.repair_s + 12.0, JOB)
    here = overlay.hosts[overlay.names[consumer]]
    assert here.jobs.failures[DERIVED] == 0
    assert overlay.makers() == [overlay.names[consumer]]
