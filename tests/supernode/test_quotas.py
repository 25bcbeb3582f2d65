"""Quotas and rates of join tokens: whoever exceeds his is refused with one clear line, and nobody else is disturbed."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.directory.events import LeaseTick
from cubecast.engine.protocol.http_bodies import JobRequest, JoinRequest, RefreshRequest
from cubecast.engine.protocol.job_records import Job
from cubecast.engine.protocol.records import SubscriptionRecord, Tree
from cubecast.errors import DirectoryBusy, DirectoryError, QuotaExceeded, TokenError
from cubecast.host.directory import failures
from cubecast.host.directory.client import DirectoryClient
from cubecast.overlay.cube import Cube, label_count
from cubecast.overlay.region import live_region
from cubecast.supernode.access.gate import Gate, SignedRequest
from cubecast.supernode.access.names import Names
from cubecast.supernode.access.rates import Bucket
from cubecast.supernode.access.revocations import Revocations
from cubecast.supernode.access.usage import REFRESHES_BURST, Usage
from cubecast.supernode.clock import SupernodeClock
from cubecast.supernode.service import Service
from cubecast.supernode.sqlite import SqliteStore
from cubecast.tokens.authority import Authority, Bearer
from cubecast.tokens.identity import Identity
from cubecast.tokens.permission import Permission
from cubecast.tokens.proof import prove
from cubecast.tokens.quota import DEFAULT_QUOTA, OWNER_QUOTA, Quota
from cubecast.types import ChannelName, HostId
from tests.supernode.node import CLIP, address_of, node, request

ORIGIN = "127.0.0.1"
"""Where requests come from."""

HONEST = 20
"""Hosts that are in before somebody attacks."""
FIRST = Cube(2, 3)


class Clock(SupernodeClock):
    """A clock that stands still unless it is set."""

    def __init__(self) -> None:
        self.time_s = 1e9

    def now_s(self) -> float:
        return self.time_s


class Model:
    """A super-node in this process without sockets: the engine, the service and its store, on a clock of the test."""

    def __init__(self, state: Path) -> None:
        self.clock = Clock()
        self.authority = Authority.load(state / "authority.pem")
        store = SqliteStore(state / "directory.sqlite")
        store.first_shape(FIRST, FIRST)
        self.engine = DirectoryEngine(FIRST, np.random.default_rng(1))
        self.gate = Gate(self.authority, self.clock, Names(), Revocations())
        self.service = Service(self.engine, store, self.gate, self.clock, monotonic_s=self.clock.now_s)
        self.close = store.close

    async def join(self, token: str, identity: Identity, name: str) -> None:
        key = identity.public_key
        body = JoinRequest(HostId(name), address_of(name), "ab" * 32, key)
        proof = prove(identity, "POST", "/v1/hosts", b"", token, self.gate.nonce())
        await self.service.join(SignedRequest(token, proof, "POST", "/v1/hosts", b""), body, ORIGIN)

    def bearer(self, token: str, identity: Identity, name: str) -> Bearer:
        rights = self.gate.person(token)
        return Bearer(
            HostId(name), rights.permission, identity.public_key, rights.token_id, rights.expires_s, rights.quota
        )

    def tick(self) -> None:
        self.service._handle(LeaseTick())


async def test_ten_thousand_joins_with_one_token_disturb_nobody(tmp_path: Path) -> None:
    """They are refused at the quota; the leases of others are renewed, and the cube is as large as the quota makes it."""
    model = Model(tmp_path)
    honest, hostile = model.authority.join_token(Permission()), model.authority.join_token(Permission())
    good, bad = Identity(), Identity()
    names = [f"good-{number}" for number in range(HONEST)]
    for name in names:
        await model.join(honest, good, name)
    bearers = [model.bearer(honest, good, name) for name in names]
    largest = live_region(HONEST + DEFAULT_QUOTA.hosts)
    refusals: set[str] = set()
    for number in range(10_000):
        model.clock.time_s += 0.002
        try:
            await model.join(hostile, bad, f"bad-{number}")
        except (QuotaExceeded, DirectoryBusy) as error:
            refusals.add(str(error))
        if number % 250 == 0:  # every 0.5 s
            for bearer in bearers:
                model.service.refresh(bearer, RefreshRequest(), ORIGIN)
            model.tick()
            assert set(names) <= model.engine.members.keys()
            assert len(model.engine.members) <= HONEST + DEFAULT_QUOTA.hosts
            assert label_count(model.engine.cube) <= label_count(largest)
            for name in names:
                placement = model.engine.placement(HostId(name))
                neighbours_max = 2 * largest.dimensions * len(placement.labels)
                assert len(placement.neighbours) <= neighbours_max, "as where every host were welcome"
    assert any("has 64 hosts in the overlay, its quota; stop one of them" in line for line in refusals)
    assert all("\n" not in line for line in refusals)
    await model.join(model.authority.join_token(Permission()), Identity(), "another")
    model.close()


async def test_somebody_who_joins_and_leaves_cannot_make_the_cube_grow_without_end(tmp_path: Path) -> None:
    model = Model(tmp_path)
    owner, token = model.authority.join_token(Permission(), quota=OWNER_QUOTA), model.authority.join_token(Permission())
    good, bad = Identity(), Identity()
    names = [f"good-{number}" for number in range(label_count(FIRST))]  # the cube is full
    for name in names:
        await model.join(owner, good, name)
    bearers = [model.bearer(owner, good, name) for name in names]
    epoch, seconds = model.engine.epoch, 1800
    for second in range(seconds):
        model.clock.time_s += 1.0
        if second % 15 == 0:
            try:
                await model.join(token, bad, "bad")
            except DirectoryBusy as error:
                assert "have made it grow more than 1 time(s) a minute" in str(error)  # noqa: PT017  each time
            else:
                model.service.leave(model.bearer(token, bad, "bad"))
        for bearer in bearers:
            model.service.refresh(bearer, RefreshRequest(), ORIGIN)
        model.tick()
    growths = (model.engine.epoch - epoch) / 2  # and as often it shrinks
    assert growths <= seconds / 60 + DEFAULT_QUOTA.growths_burst + 1
    assert set(names) <= model.engine.members.keys()
    model.close()


async def test_the_hosts_of_a_token_are_counted_over_all_ways_to_join(tmp_path: Path) -> None:
    """Also if hosts join again with another token, and show the credentials of the one before."""
    model = Model(tmp_path)
    small = Quota(hosts=2)
    tokens = [model.authority.join_token(Permission(), quota=small) for _ in range(2)]
    identity = Identity()
    for name in ("a", "b"):
        await model.join(tokens[0], identity, name)
    for name in ("c", "d"):
        await model.join(tokens[1], identity, name)
    with pytest.raises(QuotaExceeded, match="this token has 2 hosts"):
        await model.join(tokens[1], identity, "a")
    await model.join(tokens[0], identity, "a")  # again, with its own
    model.service.leave(model.bearer(tokens[0], identity, "a"))
    await model.join(tokens[0], identity, "e")
    with pytest.raises(QuotaExceeded):
        await model.join(tokens[0], identity, "f")
    model.close()


async def test_a_token_states_its_quotas_and_so_do_credentials_issued_for_it(tmp_path: Path) -> None:
    quota = Quota(1, 2, 3, 4, 5)
    async with node(tmp_path) as running:
        client = running.client(quota=quota)
        await client.join(request(client, "a"))
        authority = Authority.load(tmp_path / "authority.pem")
        assert authority.verifier.credential(client.identity.credential, 0.0).quota == quota
        assert authority.verifier.join((tmp_path / "join.token").read_text().strip()).quota == OWNER_QUOTA
        for name in (field.name for field in dataclasses.fields(Quota)):
            assert getattr(OWNER_QUOTA, name) > getattr(DEFAULT_QUOTA, name), name


@pytest.mark.parametrize("value", [-1, 2**40, "many", None, True, 1.5])
def test_a_malformed_quota_is_refused(value: object) -> None:
    with pytest.raises(TokenError, match="quota of hosts is malformed"):
        Quota.from_claims({"quota": {"hosts": value}})


async def test_channels_beyond_the_quota_are_refused(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        a, b = running.client(quota=Quota(channels=2)), running.client()
        other = running.client_with(a._join_token)
        await a.join(request(a, "a"))
        await other.join(request(other, "other"))
        await b.join(request(b, "b"))
        await a.announce(ChannelName("1"), Tree.HYBRID)
        await other.announce(ChannelName("2"), Tree.HYBRID)
        await a.announce(ChannelName("1"), Tree.HYBRID)  # it may be announced again
        with pytest.raises(DirectoryError, match=r"publish 2 channels, its quota; .*--max-channels N"):
            await a.announce(ChannelName("3"), Tree.HYBRID)
        await b.announce(ChannelName("3"), Tree.HYBRID)
        await other.withdraw(ChannelName("2"))
        await a.announce(ChannelName("4"), Tree.HYBRID)


async def test_subscriptions_beyond_the_quota_are_not_followed_and_the_lease_is_renewed(tmp_path: Path) -> None:
    def report(host: str, channel: str, state: str = "receiving") -> SubscriptionRecord:
        return SubscriptionRecord(ChannelName(channel), HostId(host), 100.0, state, 42.0)

    async with node(tmp_path) as running:
        a = running.client(quota=Quota(subscriptions=2))
        b = running.client_with(a._join_token)
        for client, name in ((a, "a"), (b, "b")):
            await client.join(request(client, name))
        two = (report("a", "1"), report("a", "2"))
        assert (await a.refresh(HostId("a"), RefreshRequest(two))).refused == ""
        assert (await a.refresh(HostId("a"), RefreshRequest(two))).refused == "", "the same ones again"
        answer = await b.refresh(HostId("b"), RefreshRequest((report("b", "1"),)))
        assert "have 2 subscriptions, its quota" in answer.refused
        assert "--max-subscriptions N" in answer.refused
        assert running.service.engine.subscriptions() == list(two)
        ended = (report("a", "1", "ended"),)
        await a.refresh(HostId("a"), RefreshRequest(ended))
        assert (await b.refresh(HostId("b"), RefreshRequest((report("b", "1"),)))).refused == ""
        await a.join(request(a, "a"))  # what it reported before is forgotten
        assert (await b.refresh(HostId("b"), RefreshRequest((report("b", "2"),)))).refused == ""


async def test_jobs_and_modules_beyond_the_quota_are_refused(tmp_path: Path) -> None:
    def job(channel: str, module: bytes) -> Job:
        return Job(ChannelName(channel), CLIP, "me", hashlib.sha256(module).hexdigest())

    one, two = b"\0asm" + bytes(100), b"\0asm" + bytes(200)
    async with node(tmp_path) as running:
        owner = running.client(quota=Quota(jobs=2, module_bytes=250))
        await owner.want_job(JobRequest(job("x", one), "auto"))
        await owner.want_job(JobRequest(job("y", two), "auto"))
        await owner.want_job(JobRequest(job("x", one), "auto"))
        with pytest.raises(DirectoryError, match="2 derived channels requested, its quota"):
            await owner.want_job(JobRequest(job("z", one), "auto"))
        await owner.upload_module(job("x", one).extension, one)
        await owner.upload_module(job("x", one).extension, one)
        with pytest.raises(DirectoryError, match="more than 250 bytes, its quota"):
            await owner.upload_module(job("y", two).extension, two)
        other = running.client()
        await other.want_job(JobRequest(job("z", two), "auto"))
        await other.upload_module(job("y", two).extension, two)
        await owner.end_job(ChannelName("x"), "me")
        await owner.want_job(JobRequest(job("w", one), "auto"))


def exhaust(usage: Usage, count: Callable[[], None]) -> int:
    """Counts requests until one is refused, while time stands still from now on; gives how many were not."""
    stands_still_s = usage._now_s()
    usage._now_s = lambda: stands_still_s
    for number in range(100_000):
        try:
            count()
        except DirectoryBusy:
            return number
    raise AssertionError("nothing was ever refused")


async def test_requests_beyond_the_rate_are_told_when_to_come_again_and_leave_the_lease_and_others_alone(
    tmp_path: Path,
) -> None:
    async with node(tmp_path) as running:
        busy, other = running.client(quota=Quota(hosts=1, channels=0, jobs=0)), running.client()
        await busy.join(request(busy, "busy"))
        await other.join(request(other, "other"))
        rights, usage = running.service.person(busy._join_token), running.service.usage
        exhaust(usage, lambda: usage.count_request(rights.token_id, rights.quota))
        async with running.browser() as http:
            refused = await http.get("/v1/overview", headers={"Authorization": f"Bearer {busy._join_token}"})
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert "more than 22 requests/s, their rate" in refused.json()["detail"]
        await busy.refresh(HostId("busy"), RefreshRequest())
        await other.overview()


async def test_the_refreshes_of_a_host_have_a_rate(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        client, other = running.client(), running.client()
        await client.join(request(client, "a"))
        await other.join(request(other, "b"))
        usage = running.service.usage
        assert exhaust(usage, lambda: usage.count_refresh(HostId("a"))) == REFRESHES_BURST
        with pytest.raises(DirectoryBusy, match=r"host a refreshes more than 10 times a second, its rate"):
            await client.refresh(HostId("a"), RefreshRequest())
        await other.refresh(HostId("b"), RefreshRequest())


@given(st.lists(st.floats(0, 5), max_size=60), st.floats(0.1, 10), st.floats(1, 20))
def test_a_bucket_never_gives_more_than_its_burst_and_its_rate(
    pauses_s: list[float], rate_per_s: float, burst: float
) -> None:
    bucket, now_s, taken = Bucket(burst, 0.0), 0.0, 0
    for pause_s in pauses_s:
        now_s += pause_s
        wait_s = bucket.take(rate_per_s, burst, now_s)
        taken += wait_s == 0
        assert taken <= burst + now_s * rate_per_s + 1e-6
        if wait_s:
            assert dataclasses.replace(bucket).take(rate_per_s, burst, now_s + wait_s + 1e-6) == 0, "as it was told"


def answering(client: DirectoryClient, *statuses: int) -> list[int]:
    """Has a client get these answers, the last one for ever; gives those that it got."""
    got: list[int] = []

    def answer(_: httpx.Request) -> httpx.Response:
        status = statuses[min(len(got), len(statuses) - 1)]
        got.append(status)
        if status == 200:
            return httpx.Response(200, json={"shape": "2^2", "hosts": [], "channels": [], "subscriptions": []})
        return httpx.Response(status, json={"detail": "too fast"}, headers={"Retry-After": "0"})

    client._connection.http = httpx.AsyncClient(base_url="https://x", transport=httpx.MockTransport(answer))
    client._connection._fetched = True
    return got


@pytest.mark.parametrize("status", [429, 503])
async def test_a_client_waits_as_it_is_told_and_tries_again_with_one_line(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(failures, "BUSY_PAUSE_S_MIN", 0.001)
    lines: list[str] = []
    client = DirectoryClient("http://x", "token", lines.append)
    got = answering(client, status, status, status, 200)
    assert (await client.overview()).shape == "2^2"
    assert got == [status, status, status, 200]
    assert lines == ["super-node: too fast; tries again in 0.001 s"]
    await client.close()


async def test_a_client_gives_up_in_the_end_and_refreshes_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "BUSY_PAUSE_S_MIN", 0.001)
    monkeypatch.setattr("cubecast.host.directory.client.BUSY_WAIT_S_MAX", 0.01)
    client = DirectoryClient("http://x", "token", lambda _: None)
    got = answering(client, 429)
    with pytest.raises(DirectoryBusy, match="super-node: too fast; try again later"):
        await client.overview()
    assert 2 < len(got) < 20
    got.clear()
    with pytest.raises(DirectoryBusy):
        await client.refresh(HostId("a"), RefreshRequest())
    assert got == [429]
    await client.close()
