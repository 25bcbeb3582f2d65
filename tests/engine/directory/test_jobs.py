"""Properties of jobs: which host derives which channel, and for how long."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cubecast.engine.directory import events as d
from cubecast.engine.directory.config import DIRECTORY_DEFAULTS
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.directory.job_placement import AUTO, PUBLISHER
from cubecast.engine.protocol.job_records import Job, JobReport
from cubecast.engine.protocol.records import SubscriptionRecord
from cubecast.errors import DirectoryError
from cubecast.overlay.cube import Cube
from cubecast.types import ChannelName, HostId
from tests.engine.directory.test_directory import engine, joined

NEWS, SMALL = ChannelName("news"), ChannelName("small")
LEASE_S, JOB_LEASE_S = DIRECTORY_DEFAULTS.lease.lease_s, DIRECTORY_DEFAULTS.jobs.lease_s
RETRY_S = DIRECTORY_DEFAULTS.jobs.retry_after_s
JOB = Job(SMALL, NEWS, "me", "a" * 64)


def overlay(*hosts: str, slots: int = 1, publishes: str = "p") -> DirectoryEngine:
    """A directory with hosts that process for others, and a channel of one of them."""
    directory = engine(Cube(2, 4))
    for host in hosts:
        directory.handle(joined(host), 0.0)
        directory.handle(d.JobsReported(HostId(host), slots), 0.0)
    directory.handle(d.ChannelAnnounced(HostId(publishes), NEWS), 0.0)
    return directory


def request(directory: DirectoryEngine, job: Job = JOB, at: str = AUTO, now: float = 0.0) -> HostId | None:
    directory.handle(d.JobWanted(job, at, has_module=True), now)
    return directory.jobs.status(job.channel).host


def keep_alive(directory: DirectoryEngine, now: float) -> list[d.DirectoryEffect]:
    for host in list(directory.members):
        directory.handle(d.HostRefreshed(host), now)
    return directory.handle(d.LeaseTick(), now)


def receiving(host: str, channel: ChannelName, bound_ms: float, path: tuple[str, ...], ms: float) -> d.DirectoryEvent:
    hosts = tuple(map(HostId, path))
    return d.SubscriptionReported(SubscriptionRecord(channel, HostId(host), bound_ms, "receiving", ms, ms, hosts))


def test_the_publisher_derives_it_while_it_is_willing_and_else_the_nearest_host() -> None:
    directory = overlay("p", "near", "far", slots=1)
    directory.handle(d.LinksReported(HostId("p"), {HostId("near"): 5.0, HostId("far"): 50.0}), 0.0)
    directory.handle(d.LinksReported(HostId("near"), {HostId("far"): 48.0}), 0.0)
    assert request(directory) == "p"
    assert request(directory, replace(JOB, channel=ChannelName("other"), extension="b" * 64)) == "near"
    assert request(directory, replace(JOB, channel=ChannelName("third"), extension="c" * 64)) == "far"
    assert request(directory, replace(JOB, channel=ChannelName("fourth"), extension="d" * 64)) is None
    assert request(directory, replace(JOB, channel=ChannelName("again"))) == "p"  # it runs there already


def test_a_host_that_receives_the_source_is_preferred_to_one_that_needs_another_copy() -> None:
    directory = overlay("p", "a", "b", slots=0)
    for host in ("a", "b"):
        directory.handle(d.JobsReported(HostId(host), 1), 0.0)
    directory.handle(d.LinksReported(HostId("p"), {HostId("a"): 5.0, HostId("b"): 7.0}), 0.0)
    directory.handle(receiving("b", NEWS, 100.0, ("p", "b"), 7.0), 0.0)
    assert request(directory) == "b"


def test_a_consumers_bound_comes_before_delay_and_copies() -> None:
    directory = overlay("p", "a", "b", "c", slots=0)
    for host in ("a", "b"):
        directory.handle(d.JobsReported(HostId(host), 1), 0.0)
    directory.handle(d.LinksReported(HostId("p"), {HostId("a"): 5.0, HostId("b"): 20.0, HostId("c"): 25.0}), 0.0)
    directory.handle(d.LinksReported(HostId("c"), {HostId("a"): 90.0, HostId("b"): 10.0}), 0.0)
    directory.handle(receiving("a", NEWS, 100.0, ("p", "a"), 5.0), 0.0)
    directory.handle(d.UnknownChannelRequested(HostId("c"), SMALL), 0.0)
    assert request(directory) == "b"


def test_at_publisher_or_at_a_host_means_no_other_host() -> None:
    directory = overlay("p", "a", slots=1)
    assert request(directory, at=PUBLISHER) == "p"
    assert request(directory, replace(JOB, channel=ChannelName("x"), extension="b" * 64), "a") == "a"
    full = replace(JOB, channel=ChannelName("y"), extension="c" * 64)
    assert request(directory, full, "a") is None
    assert "as many extensions as it is willing to" in directory.jobs.status(full.channel).reason


def test_a_full_host_gets_no_job() -> None:
    directory = overlay("p", "a", slots=1)
    for number in range(8):
        directory.handle(joined(f"s{number}"), 0.0)
        directory.handle(receiving(f"s{number}", NEWS, 500.0, ("p", f"s{number}"), 9.0), 0.0)
    assert request(directory) == "a"


def test_copies_of_streams_that_are_not_received_and_reports_without_a_parent_do_not_count() -> None:
    directory = overlay("p", "a", slots=1)
    for number in range(8):
        directory.handle(joined(f"s{number}"), 0.0)
        host = HostId(f"s{number}")
        path = (HostId("p"), host) if number % 2 else (host,)
        state = "ended" if number % 2 else "receiving"
        directory.handle(d.SubscriptionReported(SubscriptionRecord(NEWS, host, 9.0, state, path=path)), 0.0)
    assert request(directory) == "p"


def test_a_job_that_fails_goes_elsewhere_and_one_that_is_refused_goes_nowhere() -> None:
    directory = overlay("p", "a", slots=1)
    assert request(directory) == "p"
    directory.handle(d.JobsReported(HostId("p"), 1, (JobReport(JOB, "failed", "no path"),)), 1.0)
    assert request(directory, now=1.0 + RETRY_S) == "a"
    effects = directory.handle(d.JobsReported(HostId("a"), 1, (JobReport(JOB, "refused", "no setting"),)), 4.0)
    status = directory.jobs.status(SMALL)
    assert (status.host, status.state, status.reason) == (None, "refused", "no setting")
    assert d.Assign(HostId("a"), ()) in effects
    assert request(directory, now=9.0) is None


def test_where_no_host_is_willing_the_owner_is_sent_that_reason() -> None:
    directory = overlay("p", "a", slots=0)
    assert request(directory) is None
    assert directory.jobs.status(SMALL).reason == "no host processes for others; start one with --process N"


def test_when_a_host_leaves_its_jobs_go_elsewhere_and_those_of_others_stay() -> None:
    directory = overlay("p", "a", "b", slots=1)
    other = replace(JOB, channel=ChannelName("other"), extension="b" * 64)
    assert request(directory, at="a") == "a"
    assert request(directory, other, at="b") == "b"
    directory.handle(d.HostLeft(HostId("a")), 1.0)
    status = directory.jobs.status(SMALL)
    assert (status.host, status.state, status.reason) == (None, "waiting", "host a has left")
    assert directory.jobs.status(other.channel).host == "b"


def test_a_job_that_may_run_anywhere_is_given_up_after_its_last_failure_and_no_earlier() -> None:
    directory = overlay("p", "a", "b", "c", slots=1)
    failures_max, now = DIRECTORY_DEFAULTS.jobs.failures_max, 0.0
    for failures in range(1, failures_max + 1):
        host = request(directory, now=now)
        assert host is not None, f"after {failures - 1} failures it is tried again"
        directory.handle(d.JobsReported(host, 1, (JobReport(JOB, "failed", "no path"),)), now)
        assert directory.jobs.status(SMALL).state == ("failed" if failures == failures_max else "waiting")
        now += RETRY_S
    assert request(directory, now=now) is None


def test_a_job_that_may_run_at_one_host_only_is_given_up_when_it_fails_there() -> None:
    directory = overlay("p", "a", slots=1)
    assert request(directory, at="a") == "a"
    directory.handle(d.JobsReported(HostId("a"), 1, (JobReport(JOB, "failed", "no path"),)), 1.0)
    assert directory.jobs.status(SMALL).state == "failed"
    assert request(directory, at="a", now=1.0 + RETRY_S) is None


def test_a_host_that_does_not_have_its_job_any_more_is_sent_it_again_and_no_other_host_is() -> None:
    directory = overlay("p", "a", slots=1)
    other = replace(JOB, channel=ChannelName("other"), extension="b" * 64)
    request(directory, at="p")
    assert directory.handle(d.JobsReported(HostId("p"), 1, ()), 1.0) == [d.Assign(HostId("p"), (JOB,))]
    request(directory, other, at="a")
    assert directory.handle(d.JobsReported(HostId("p"), 1, (JobReport(JOB, "running"),)), 2.0) == []


def test_a_job_that_its_owner_does_not_request_any_more_ends_at_its_host() -> None:
    directory = overlay("p")
    request(directory)
    assert not keep_alive(directory, JOB_LEASE_S / 2)
    request(directory, now=JOB_LEASE_S / 2)
    assert not keep_alive(directory, JOB_LEASE_S + 0.1), "the request was repeated"
    assert keep_alive(directory, 1.5 * JOB_LEASE_S + 0.1) == [d.Assign(HostId("p"), ())]
    with pytest.raises(DirectoryError, match="no job derives"):
        directory.jobs.status(SMALL)


def test_only_the_owner_can_change_or_end_a_job_and_none_is_derived_from_itself() -> None:
    directory = overlay("p")
    request(directory)
    with pytest.raises(DirectoryError, match="another job"):
        request(directory, replace(JOB, owner="you"))
    with pytest.raises(DirectoryError, match="other settings"):
        request(directory, replace(JOB, config={"share": "1"}))
    with pytest.raises(DirectoryError, match="from itself"):
        request(directory, Job(ChannelName("loop"), ChannelName("loop"), "me", "a" * 64))
    request(directory, Job(ChannelName("b"), ChannelName("a"), "me", "a" * 64))
    with pytest.raises(DirectoryError, match="from itself"):
        request(directory, Job(ChannelName("a"), ChannelName("b"), "me", "a" * 64))
    directory.handle(d.JobEnded(SMALL, "you"), 0.0)
    assert directory.jobs.status(SMALL).host == "p"
    assert d.Assign(HostId("p"), ()) in directory.handle(d.JobEnded(SMALL, "me"), 0.0)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_no_channel_is_derived_from_itself_however_long_the_way_round(length: int) -> None:
    directory = overlay("p")
    names = [ChannelName(f"c{number}") for number in range(length)]
    for source, channel in pairwise(names):
        request(directory, Job(channel, source, "me", "a" * 64))
    with pytest.raises(DirectoryError, match="from itself"):
        request(directory, Job(names[0], names[-1], "me", "a" * 64))


def test_a_new_version_reaches_the_host_once_its_module_is_there() -> None:
    directory = overlay("p")
    request(directory)
    newer = replace(JOB, extension="b" * 64)
    directory.handle(d.JobWanted(newer, AUTO, has_module=False), 1.0)
    assert directory.jobs.of(HostId("p")) == (JOB,)
    assert directory.jobs.modules() >= {JOB.extension, newer.extension}
    assert directory.jobs.status(SMALL).module_wanted
    assert d.Assign(HostId("p"), (newer,)) in directory.handle(d.JobWanted(newer, AUTO, has_module=True), 1.0)


def test_after_a_restart_jobs_stay_with_the_hosts_that_run_them() -> None:
    before = overlay("p", "a", slots=2)
    hosts, channels = [m.record for m in before.members.values()], list(before.channels.values())
    after = DirectoryEngine(Cube(2, 4), np.random.default_rng(2))
    after.restore((before.cube, before.epoch), hosts, channels, 100.0)
    other = replace(JOB, channel=ChannelName("orphan"))
    reports = (JobReport(JOB, "running"), JobReport(other, "running"))
    effects = [*after.handle(d.JobsReported(HostId("a"), 2, reports), 101.0)]
    assert request(after, now=101.5) is None  # its host may report a moment later, or before the request
    effects += after.handle(d.JobsReported(HostId("a"), 2, reports), 102.0)
    assert after.jobs.status(SMALL).host == "a"
    assert not [effect for effect in effects if isinstance(effect, d.Assign)]
    request(after, now=108.0)
    settled = keep_alive(after, 100.0 + JOB_LEASE_S)
    assert d.Assign(HostId("a"), (JOB,)) in settled  # the orphan is not requested any more


class Life(RuleBasedStateMachine):
    """Hosts, owners and reports in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.directory = overlay("p")
        self.assigned: dict[str, tuple[Job, ...]] = {}
        self.renewed: dict[str, float] = {}

    def handle(self, event: d.DirectoryEvent) -> None:
        for effect in self.directory.handle(event, self.now):
            if isinstance(effect, d.Assign):
                self.assigned[effect.host] = effect.jobs

    @rule(host=st.sampled_from("abc"), slots=st.integers(0, 2))
    def join(self, host: str, slots: int) -> None:
        if HostId(host) not in self.directory.members:
            self.assigned[host] = ()
        self.handle(joined(host))
        self.handle(d.JobsReported(HostId(host), slots))

    @rule(host=st.sampled_from("abc"))
    def leave(self, host: str) -> None:
        self.handle(d.HostLeft(HostId(host)))

    @rule(
        channel=st.sampled_from(["x", "y", "z"]),
        version=st.sampled_from("ab"),
        at=st.sampled_from([AUTO, "a", PUBLISHER]),
    )
    def request(self, channel: str, version: str, at: str) -> None:
        try:
            self.handle(d.JobWanted(Job(ChannelName(channel), NEWS, channel, version * 64), at, has_module=True))
        except DirectoryError:
            return
        self.renewed[channel] = self.now

    @rule(channel=st.sampled_from(["x", "y", "z"]))
    def end(self, channel: str) -> None:
        self.handle(d.JobEnded(ChannelName(channel), channel))
        self.renewed.pop(channel, None)

    @precondition(lambda self: any(self.assigned.values()))
    @rule(data=st.data(), state=st.sampled_from(["starting", "running", "running", "failed", "refused", "finished"]))
    def report(self, data: st.DataObject, state: str) -> None:
        host = data.draw(st.sampled_from(sorted(h for h, jobs in self.assigned.items() if jobs)))
        if HostId(host) in self.directory.members:
            reports = tuple(JobReport(job, state, "why") for job in self.assigned[host])
            self.handle(d.JobsReported(HostId(host), self.directory.members[HostId(host)].slots, reports))

    @rule(seconds=st.floats(0.1, JOB_LEASE_S + 1))
    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + LEASE_S / 3)
            for host in list(self.directory.members):
                self.handle(d.HostRefreshed(host))
            self.handle(d.LeaseTick())

    @invariant()
    def hosts_know_their_jobs_and_are_members(self) -> None:
        for host in self.directory.members:
            assert self.directory.jobs.of(host) == self.assigned.get(host, ())

    @invariant()
    def a_channel_is_derived_by_one_host_and_was_requested_lately(self) -> None:
        derived = [job.channel for host in self.directory.members for job in self.directory.jobs.of(host)]
        assert len(derived) == len(set(derived))
        for channel in derived:
            assert self.now - self.renewed[channel] <= JOB_LEASE_S + LEASE_S


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
