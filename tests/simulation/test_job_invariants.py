"""The invariants of jobs: kept by runs with every fault, and each one reports what breaks it."""

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cubecast.engine.directory.config import DIRECTORY_DEFAULTS, DirectoryConfig, JobsConfig, LeaseConfig
from cubecast.engine.host.config import EngineConfig, SearchConfig, TreeConfig
from cubecast.overlay.cube import Cube
from cubecast.simulation.job_invariants import CHECK_S, JobInvariants
from cubecast.simulation.overlay import SimulatedOverlay
from cubecast.simulation.owners import JobOwner
from cubecast.simulation.run import simulate
from cubecast.simulation.scenario import Churn, DirectoryOutage, Partition, Scenario
from cubecast.types import ChannelName
from tests.engine.in_memory import random_delays
from tests.simulation.test_jobs import DERIVED, JOB, JobOverlay


@dataclass
class Watched:
    """An overlay whose jobs are checked while time passes."""

    overlay: JobOverlay
    invariants: JobInvariants

    def run(self, seconds: float) -> list[str]:
        broken = []
        for _ in range(round(seconds / CHECK_S)):
            self.overlay.supernode.want_job(JOB)
            self.overlay.run(CHECK_S)
            broken += self.invariants.check()
        return broken


@pytest.fixture
def watched() -> Watched:
    overlay = JobOverlay({3: 1, 6: 1})
    return Watched(overlay, JobInvariants(overlay, [JobOwner(0, JOB, overlay.now)], set()))


def test_a_healthy_job_keeps_the_invariants_and_so_does_one_whose_host_crashes(watched: Watched) -> None:
    assert watched.run(20.0) == []
    watched.overlay.crash(watched.overlay.makers()[0])
    assert watched.run(60.0) == []
    assert watched.overlay.makers()


def test_a_job_that_no_willing_host_starts_is_reported(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    for host in watched.overlay.names:
        monkeypatch.setattr(watched.overlay.hosts[host].jobs, "_continue", lambda _: None)
    patience_s = watched.invariants.start_s
    assert watched.run(patience_s - 2) == []
    broken = watched.run(6.0)
    assert len(broken) == 1
    assert f"job {DERIVED}: runs nowhere" in broken[0]


def test_a_job_that_failed_at_every_willing_host_has_more_time_but_no_more_than_the_directory_leaves_them_out(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    for host in watched.overlay.names:
        monkeypatch.setattr(watched.overlay.hosts[host].jobs, "_continue", lambda _: None)
        watched.overlay.hosts[host].jobs.failures[DERIVED] = 1
    patience_s = watched.invariants.start_s
    monkeypatch.setattr(type(watched.overlay.directory.jobs), "derives", lambda *_: False)
    assert watched.run(DIRECTORY_DEFAULTS.jobs.avoid_s + patience_s - 2) == []
    assert watched.run(6.0)


def test_a_job_is_not_reported_where_no_host_is_willing() -> None:
    overlay = JobOverlay({})
    watched = Watched(overlay, JobInvariants(overlay, [JobOwner(0, JOB, overlay.now)], set()))
    assert watched.run(60.0) == []
    assert set(watched.invariants.running_shares) == {0.0}


def test_a_job_that_runs_twice_is_reported(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.run(20.0)
    (maker,) = watched.overlay.makers()
    (other,) = (h for h in (watched.overlay.names[3], watched.overlay.names[6]) if h != maker)
    monkeypatch.setattr(watched.overlay.hosts[other].jobs, "source_of", lambda _: ChannelName("clip"))
    assert watched.run(watched.invariants.twice_s - 2) == []
    broken = watched.run(4.0)
    assert len(broken) == 1
    assert f"job {DERIVED}: runs at" in broken[0]


scenarios = st.builds(
    Scenario,
    hosts=st.integers(8, 16),
    network=st.just("transit-stub:3x2x3x2"),
    channels=st.integers(1, 2),
    subscribers=st.floats(0.2, 0.8),
    fan_out=st.integers(4, 8),
    bound_ms=st.just((1000.0, 5000.0)),
    tick_s=st.sampled_from([0.2, 0.5]),
    warm_s=st.just(20.0),
    seconds=st.just(60.0),
    loss=st.sampled_from([0.0, 0.01]),
    jobs=st.integers(1, 3),
    willing=st.floats(0.3, 1.0),
    process_slots=st.integers(1, 2),
    churn=st.builds(Churn, share=st.sampled_from([0.0, 0.3]), crashes=st.floats(0, 1)),
    partitions=st.sampled_from([(), (Partition(10.0, 5.0, 0.2),)]),
    directory_outages=st.sampled_from([(), (DirectoryOutage(25.0, 8.0),)]),
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenarios, st.integers(1, 1000))
def test_small_runs_with_jobs_keep_every_invariant_and_are_repeatable(scenario: Scenario, seed: int) -> None:
    result = simulate(scenario, seed)
    assert result.invariants_broken == []
    assert result.jobs_running is not None


def test_the_same_seed_gives_the_same_run_and_jobs_run_most_of_the_time() -> None:
    scenario = Scenario(12, "transit-stub:3x2x3x2", tick_s=0.5, warm_s=20.0, seconds=40.0, jobs=2, willing=1.0)
    first, again = simulate(scenario, 3), simulate(scenario, 3)
    assert first.digest == again.digest
    assert first.jobs_running is not None
    assert first.jobs_running > 0.7


def test_the_time_that_jobs_are_given_follows_the_tunables_of_the_run() -> None:
    def invariants(config: EngineConfig, directory: DirectoryConfig) -> JobInvariants:
        overlay = SimulatedOverlay(random_delays(2, 1), Cube(2, 1), config=config, directory_config=directory)
        return JobInvariants(overlay, [], set())

    usual = invariants(EngineConfig(), DirectoryConfig())
    search, tree = SearchConfig(search_ticks=90), TreeConfig(repair_ticks=200)
    lease, jobs = LeaseConfig(lease_s=20.0), JobsConfig(retry_after_s=5.0)
    slow = invariants(EngineConfig(search=search, tree=tree), DirectoryConfig(lease=lease, jobs=jobs))
    lease_s, retry_s = DIRECTORY_DEFAULTS.lease.lease_s, DIRECTORY_DEFAULTS.jobs.retry_after_s
    ticks = 90 + 200 - SearchConfig().search_ticks - TreeConfig().repair_ticks
    longer_s = (20.0 - lease_s) + 2 * (5.0 - retry_s) + ticks * EngineConfig().tick_s
    assert slow.start_s - usual.start_s == pytest.approx(longer_s)
    assert slow.twice_s / usual.twice_s == pytest.approx(20.0 / lease_s)
