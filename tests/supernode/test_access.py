"""Who may ask the super-node for what: names belong to keys, requests are proved, rights end."""

from math import inf
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cubecast.engine.protocol.http_bodies import RefreshRequest
from cubecast.engine.protocol.records import SubscriptionRecord, Tree
from cubecast.errors import (
    ChannelUnknown,
    DirectoryError,
    TokenError,
)
from cubecast.host.directory.client import DirectoryClient
from cubecast.supernode.access.names import HOLD_S, Names
from cubecast.supernode.access.revocations import revoke
from cubecast.supernode.tls.certificate import pin_of_tokens
from cubecast.tokens.authority import Authority
from cubecast.tokens.jws import unverified
from cubecast.tokens.permission import Permission
from cubecast.types import ChannelName, HostId
from tests.conditions import eventually
from tests.supernode.node import CLIP, node, request


async def test_tokens_decide_who_may_do_what(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        viewer = running.client(Permission(hosts="tv-*", publish="", subscribe="news"))
        with pytest.raises(TokenError, match="does not allow a host named radio"):
            await viewer.join(request(viewer, "radio"))
        await viewer.join(request(viewer, "tv-1"))
        with pytest.raises(TokenError, match="publishing"):
            await viewer.announce(ChannelName("news"), Tree.HYBRID)
        with pytest.raises(TokenError, match="subscribing"):
            await viewer.resolve(CLIP)
        with pytest.raises(ChannelUnknown):
            await viewer.resolve(ChannelName("news"))
        forged = Authority(Ed25519PrivateKey.generate()).join_token(Permission(), pin=pin_of_tokens(tmp_path))
        wrong = DirectoryClient(running.url, forged, lambda _: None)
        running.clients.append(wrong)
        with pytest.raises(TokenError, match="refuses the token"):
            await wrong.join(request(wrong, "x"))
        with pytest.raises(TokenError):
            await wrong.overview()


async def test_a_host_cannot_act_for_another(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        a, b = running.client(), running.client()
        await a.join(request(a, "a"))
        await b.join(request(b, "b"))
        with pytest.raises(TokenError, match="host a's, not b's"):
            await a.leave(HostId("b"))
        await a.announce(CLIP, Tree.HYBRID)
        with pytest.raises(DirectoryError, match="already published by host a"):
            await b.announce(CLIP, Tree.HYBRID)


async def test_a_host_cannot_report_a_subscription_of_another(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        a, b = running.client(), running.client()
        await a.join(request(a, "a"))
        await b.join(request(b, "b"))
        own = SubscriptionRecord(CLIP, HostId("b"), 100.0, "receiving", 42.0)
        false = SubscriptionRecord(CLIP, HostId("a"), 100.0, "receiving", 1.0)
        await b.refresh(HostId("b"), RefreshRequest((false, own)))
        assert (await running.client().overview()).subscriptions == (own,)


async def test_a_name_belongs_to_the_key_that_joined_with_it(tmp_path: Path) -> None:
    """A join token and a host's name and address are not enough to join as it or to act for it."""
    async with node(tmp_path) as running:
        owner, intruder = running.client(), running.client(Permission(publish="", subscribe=""))
        await owner.join(request(owner, "p"))
        await owner.announce(CLIP, Tree.HYBRID)
        with pytest.raises(DirectoryError, match="the name p is taken"):
            await intruder.join(request(intruder, "p"))
        stolen = request(intruder, "p")
        object.__setattr__(stolen, "key", owner.identity.public_key)
        with pytest.raises(DirectoryError, match="the name p is taken"):
            await intruder.join(stolen)
        intruder.identity.credential = owner.identity.credential
        with pytest.raises(TokenError, match="not by the key of host p"):
            await intruder.leave(HostId("p"))
        assert running.service.engine.channels[CLIP].publisher == "p"


async def test_the_name_of_a_host_that_has_left_is_free_for_its_key_at_once_and_for_others_after_a_while(
    tmp_path: Path,
) -> None:
    async with node(tmp_path) as running:
        owner = running.client()
        await owner.join(request(owner, "p"))
        await owner.leave(HostId("p"))
    async with node(tmp_path) as running:  # a restart does not forget it
        again, other = running.client(), running.client()
        again.identity = owner.identity
        with pytest.raises(
            DirectoryError, match=r"the name p belongs to a host that has left, and is free in \d+ s; .*--name"
        ):
            await other.join(request(other, "p"))
        await again.join(request(again, "p"))
        await again.leave(HostId("p"))


def test_a_name_is_held_for_its_key_until_its_time_has_come() -> None:
    names, p = Names(), HostId("p")
    names.take(p, "a")
    assert names.held_s(p, "a", 0.0) is None
    assert names.held_s(p, "b", 1e9) == inf, "as long as its host is in"
    names.leave(p, 100.0)
    assert names.held_s(p, "a", 100.0) is None
    assert names.held_s(p, "b", 110.0) == HOLD_S - 10.0
    assert names.expire(100.0 + HOLD_S - 1) == []
    assert names.expire(100.0 + HOLD_S) == [p]
    assert names.held_s(p, "b", 100.0 + HOLD_S) is None


async def test_revoking_a_token_ends_all_that_was_issued_for_it_and_nothing_else(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        bad, good = running.client(Permission(publish="clip")), running.client()
        await bad.join(request(bad, "bad"))
        await bad.announce(CLIP, Tree.HYBRID)
        await good.join(request(good, "good"))
        known = (await good.refresh(HostId("good"), RefreshRequest())).ended
        assert known == ()
        revoke(tmp_path, str(unverified(bad._join_token)["jti"]))
        await eventually(lambda: "bad" not in running.service.engine.members)
        ended = (await good.refresh(HostId("good"), RefreshRequest())).ended
        assert [(right.host, right.key, right.channel) for right in ended] == [("bad", bad.identity.public_key, "")]
        assert (await good.refresh(HostId("good"), RefreshRequest(ended=ended[0].number))).ended == ()
        assert CLIP not in running.service.engine.channels
        for attempt in (bad.refresh(HostId("bad"), RefreshRequest()), bad.join(request(bad, "bad")), bad.overview()):
            with pytest.raises(TokenError, match="revoked"):
                await attempt
    async with node(tmp_path) as running:
        again = running.client()
        again._join_token = bad._join_token
        with pytest.raises(TokenError, match="revoked"):
            await again.join(request(again, "bad"))


async def test_a_host_whose_join_token_expires_is_removed(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        client = running.client()
        client._join_token = running.token(ttl_s=1.0)
        await client.join(request(client, "a"))
        await eventually(lambda: "a" not in running.service.engine.members)
        with pytest.raises(TokenError, match="expired"):
            await client.refresh(HostId("a"), RefreshRequest())


async def test_a_request_that_was_seen_cannot_be_sent_again_or_altered(tmp_path: Path) -> None:
    async with node(tmp_path) as running, running.browser() as http:
        client = running.client()
        sent: list[httpx.Request] = []

        async def record(request: httpx.Request) -> None:
            sent.append(request)

        client._connection.http.event_hooks["request"].append(record)
        await client.join(request(client, "a"))
        await client.refresh(HostId("a"), RefreshRequest())
        last = sent[-1]
        for method, path, body in (
            ("POST", "/v1/hosts/a/refresh", last.content),
            ("POST", "/v1/hosts/a/refresh", b'{"slots": 5}'),
            ("DELETE", "/v1/hosts/a", b""),
            ("POST", "/v1/hosts/a/refresh?x=1", last.content),
        ):
            shown = {name: last.headers[name] for name in ("Authorization", "DPoP", "Content-Type")}
            answer = await http.request(method, path, content=body, headers=shown)
            assert answer.status_code == 401, (method, path)
        assert "a" in running.service.engine.members
