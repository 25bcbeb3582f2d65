"""A host's reports reach the super-node, also those made while it did not answer."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import cast

import msgspec
import pytest

from cubecast.engine.protocol.http_bodies import (
    LINES_MAX,
    REFRESH_BYTES_MAX,
    SUSPECTS_MAX,
    EndedRight,
    Pushed,
    RefreshAnswer,
    RefreshRequest,
)
from cubecast.engine.protocol.job_records import CONFIG_CHARACTERS_MAX, Job, JobReport
from cubecast.engine.protocol.records import ChannelRecord, SubscriptionRecord, Tree
from cubecast.errors import DirectoryBusy, DirectoryError, DirectoryUnreachable, TokenError
from cubecast.host.config import HostConfig
from cubecast.host.directory import session as module
from cubecast.host.directory.client import DirectoryClient
from cubecast.host.directory.job_reports import JobReports
from cubecast.host.directory.session import LEDGER_MAX, DirectorySession
from cubecast.host.tasks import Tasks
from cubecast.names import NAME_MAX
from cubecast.types import ChannelName, HostId, Label
from tests.conditions import eventually

REFRESH_S = 0.01


class Client:
    """A super-node that answers refreshes as `error` says, and pushes nothing."""

    def __init__(self) -> None:
        self.error: DirectoryError | None = None
        self.stops, self.streams = False, 0
        """Whether it stops in an orderly way after its first push; streams of pushes that were opened."""
        self.failed: list[RefreshRequest] = []
        self.arrived: list[RefreshRequest] = []
        self.ended: list[EndedRight] = []
        self.not_followed = ""
        self.announced: list[int] = []
        """The number of the publication in each announcement; they are answered once `answers` is set."""
        self.answers = asyncio.Event()

    async def refresh(self, host: HostId, request: RefreshRequest) -> RefreshAnswer:
        assert host == "me"
        if self.error is not None:
            self.failed.append(request)
            raise self.error
        self.arrived.append(request)
        return RefreshAnswer("", 1, (), 0.0, tuple(self.ended), self.not_followed)

    async def announce(self, channel: ChannelName, tree: Tree, publication: int) -> ChannelRecord:
        self.announced.append(publication)
        await self.answers.wait()
        return ChannelRecord(channel, HostId("me"), Label(0), tree=tree, publication=publication or len(self.announced))

    async def pushes(self, _: HostId) -> AsyncGenerator[Pushed]:
        self.streams += 1
        if self.stops:
            if self.streams > 1:
                raise DirectoryUnreachable("away")
            yield Pushed()
            return
        await asyncio.Event().wait()

    def suspects(self) -> list[HostId]:
        return [host for request in self.arrived for host in request.suspects]

    def lines(self) -> dict[ChannelName, str]:
        return {line.channel: line.state for request in self.arrived for line in request.subscriptions}


class NoJobs:
    slots = 0
    changed: Callable[[], None] = staticmethod(lambda: None)

    def want(self, jobs: tuple[Job, ...]) -> None:
        raise AssertionError(jobs)

    def reports(self) -> tuple[JobReport, ...]:
        return ()


class LargeJobs(NoJobs):
    """More jobs with the longest settings than one refresh may carry."""

    names = tuple(ChannelName(f"j{number}") for number in range(64))

    def reports(self) -> tuple[JobReport, ...]:
        settings = {"text": "\x01" * (CONFIG_CHARACTERS_MAX - 4)}  # each character is written in 6 bytes
        name = "n" * NAME_MAX
        return tuple(
            JobReport(Job(channel, ChannelName(name), name, name, settings), "running", name) for channel in self.names
        )


class Host:
    def __init__(self, tasks: Tasks) -> None:
        self.client, self.links_ms, self.notices = Client(), dict[HostId, float](), list[str]()
        self.ended, self.refused = list[EndedRight](), list[TokenError]()
        config = HostConfig(HostId("me"), "", "")
        client = cast(DirectoryClient, self.client)
        self.session = DirectorySession(
            config,
            client,
            tasks,
            self.notices.append,
            lambda _: None,
            lambda: self.links_ms,
            NoJobs(),
            self.ended.append,
            self.refused.append,
        )

    async def fails_again(self) -> None:
        """Waits for another refresh that begins now and fails."""
        known = len(self.client.failed)
        await eventually(lambda: len(self.client.failed) > known)

    async def answers(self) -> None:
        """The super-node is back: waits until a refresh has arrived."""
        self.client.error = None
        await eventually(lambda: bool(self.client.arrived))


@pytest.fixture
async def host(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    """A session whose super-node is away."""
    monkeypatch.setattr(module, "REFRESH_S", REFRESH_S)

    async def rejoin(_: DirectorySession) -> None:
        """The super-node has removed the host, and refuses to let it join again yet."""

    monkeypatch.setattr(DirectorySession, "_rejoin", rejoin)
    async with asyncio.TaskGroup() as group:
        tasks = Tasks(group)
        host = Host(tasks)
        host.client.error = DirectoryUnreachable("away")
        host.session.start()
        yield host
        tasks.cancel_all()


def line(channel: str, state: str = "receiving") -> SubscriptionRecord:
    return SubscriptionRecord(ChannelName(channel), HostId("me"), 100.0, state)


@pytest.mark.parametrize("error", [DirectoryUnreachable("away"), DirectoryError("unknown host")])
async def test_suspicions_and_records_of_a_failed_refresh_are_sent_with_the_next_that_arrives(
    host: Host, error: DirectoryError
) -> None:
    host.client.error = error
    host.session.suspect(HostId("dead"))
    host.session.report(line("news"))
    await host.fails_again()
    host.session.suspect(HostId("dead-later"))
    host.session.report(line("news", "ended"))
    await host.fails_again()
    await host.answers()
    assert host.client.suspects() == ["dead", "dead-later"]
    assert host.client.lines() == {"news": "ended"}


async def test_a_host_that_answers_again_is_no_longer_suspected(host: Host) -> None:
    for name in ("back", "dead"):
        host.session.suspect(HostId(name))
    await host.fails_again()
    host.links_ms[HostId("back")] = 5.0
    await host.answers()
    assert host.client.suspects() == ["dead"]


async def test_a_report_that_arrived_is_not_sent_again(host: Host) -> None:
    host.session.suspect(HostId("dead"))
    await host.answers()
    known = len(host.client.arrived)
    await eventually(lambda: len(host.client.arrived) > known + 1)
    assert host.client.suspects() == ["dead"]


async def test_only_the_most_recent_suspicions_and_records_are_kept(host: Host) -> None:
    hosts = [HostId(f"h{number:03d}") for number in range(2 * SUSPECTS_MAX)]
    for name in hosts[:SUSPECTS_MAX]:
        host.session.suspect(name)
    for number in range(LEDGER_MAX):
        host.session.report(line(f"old{number}"))
    await host.fails_again()
    for name in (*hosts[SUSPECTS_MAX:], hosts[0]):
        host.session.suspect(name)
    for number in range(10):
        host.session.report(line(f"new{number}"))
    await host.fails_again()
    await host.answers()
    newest = {ChannelName(f"new{number}") for number in range(10)}
    await eventually(lambda: newest <= host.client.lines().keys())
    assert host.client.suspects() == sorted([*hosts[SUSPECTS_MAX + 1 :], hosts[0]])
    assert len(host.client.lines()) <= LEDGER_MAX


async def test_the_user_is_told_once_that_a_super_node_has_stopped_in_an_orderly_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FOLLOW_PAUSES_S", (0.001,))
    async with asyncio.TaskGroup() as group:
        tasks = Tasks(group)
        host = Host(tasks)
        host.client.stops = True
        host.session.start()
        await eventually(lambda: host.client.streams > 5)
        tasks.cancel_all()
    assert host.notices == ["away; running streams go on"]


async def test_more_records_than_one_refresh_may_carry_go_in_several(host: Host) -> None:
    channels = [ChannelName(f"c{number:04d}") for number in range(3 * LINES_MAX + 1)]
    for channel in channels:
        host.session.report(line(channel, "receiving"))
    await host.answers()
    await eventually(lambda: host.client.lines().keys() >= set(channels))
    assert max(len(request.subscriptions) for request in host.client.arrived) <= LINES_MAX


def test_the_longest_records_of_one_refresh_are_a_third_of_what_its_body_may_have() -> None:
    name, hops = "n" * NAME_MAX, 20
    longest = SubscriptionRecord(
        ChannelName(name), HostId(name), 1e5 / 3, "searching", 1e5 / 3, 1e5 / 3, (HostId(name),) * hops, 1e9 / 3, 1 / 3
    )
    assert len(msgspec.json.encode(RefreshRequest((longest,) * LINES_MAX))) <= REFRESH_BYTES_MAX / 3


async def test_all_jobs_are_reported_in_turn_where_one_refresh_is_too_small(
    monkeypatch: pytest.MonkeyPatch, host: Host
) -> None:
    monkeypatch.setattr(host.session, "_job_reports", JobReports(LargeJobs()))
    for number in range(LINES_MAX):
        host.session.report(line(f"c{number}"))
    await host.answers()
    await eventually(
        lambda: {job.job.channel for sent in host.client.arrived for job in sent.jobs} == set(LargeJobs.names)
    )
    assert max(len(msgspec.json.encode(sent)) for sent in host.client.arrived) <= REFRESH_BYTES_MAX


async def test_a_host_whose_super_node_is_busy_waits_keeps_its_reports_and_says_so_once(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REFRESH_BUSY_S_MAX", REFRESH_S)
    rejoined: list[None] = []

    async def rejoin(_: DirectorySession) -> None:
        rejoined.append(None)

    monkeypatch.setattr(DirectorySession, "_rejoin", rejoin)
    host.client.error = DirectoryBusy("too fast", 3600.0)
    host.session.report(line("news"))
    await host.fails_again()
    await host.fails_again()
    assert not rejoined, "it is still in"
    await host.answers()
    assert host.client.lines() == {"news": "receiving"}
    assert host.notices == ["too fast; meanwhile reports wait, and running streams go on"]


async def test_the_user_is_told_once_that_subscriptions_are_not_followed(host: Host) -> None:
    host.client.not_followed = "more than its quota"
    await host.answers()
    known = len(host.client.arrived)
    await eventually(lambda: len(host.client.arrived) > known + 2)
    assert host.notices == ["super-node: more than its quota"]


async def test_a_publication_is_announced_once_at_a_time_and_then_with_the_number_that_it_was_given(host: Host) -> None:
    """A refresh whose answer does not list the channel yet would announce it as another publication."""
    host.session.announce(ChannelName("news"), Tree.HYBRID)
    await host.answers()
    known = len(host.client.arrived)
    await eventually(lambda: len(host.client.arrived) > known + 2)
    assert host.client.announced == [0]
    host.client.answers.set()
    record = await host.session.announced(ChannelName("news"))
    await eventually(lambda: len(host.client.announced) > 1)
    assert set(host.client.announced[1:]) == {record.publication}
