"""Rights on live hosts: nobody is sent a channel without one, and where a right ends, what it began ends too."""

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

import cubecast
from cubecast.client.host import Host
from cubecast.host.peer_rights import PeerRights
from cubecast.supernode.access.revocations import revoke
from cubecast.supernode.server import KEY_FILE
from cubecast.supernode.tls.certificate import pin_of_tokens
from cubecast.tokens.authority import JOIN_TTL_S, Authority
from cubecast.tokens.permission import Permission
from cubecast.tokens.quota import DEFAULT_QUOTA, Quota
from cubecast.types import ChannelName
from tests.client.numbers import numbers
from tests.conditions import eventually

LOCAL = "127.0.0.1:0"
ALL = Permission()
NUMBERS = ChannelName("numbers")
ENDS_S = 10.0
"""Longest time, s, after which a right that was revoked is worth nothing at any host."""


class PinningAuthority(Authority):
    """Makes join tokens as `cubecast token` does: with the pin of the super-node."""

    pin = ""

    def join_token(
        self, permission: Permission, ttl_s: float = JOIN_TTL_S, pin: str = "", quota: Quota = DEFAULT_QUOTA
    ) -> str:
        return super().join_token(permission, ttl_s, pin or self.pin, quota)


@pytest.fixture
def authority(supernode: str, tmp_path: Path) -> Authority:
    assert supernode
    made = PinningAuthority.load(tmp_path / "state" / KEY_FILE)
    assert isinstance(made, PinningAuthority)
    made.pin = pin_of_tokens(tmp_path / "state")
    return made


def join(name: str, token: str) -> contextlib.AbstractAsyncContextManager[Host]:
    return cubecast.join(name=name, listen=LOCAL, token=token)


async def collect(subscription: cubecast.Subscription) -> None:
    """Reads a channel of numbers to its end; none may be missing."""
    before = None
    async for frame in subscription:
        number = json.loads(frame.payload)
        assert before is None or number == before + 1
        before = number


async def test_a_host_without_a_right_to_a_channel_is_not_sent_it_whatever_it_asks(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host is hostile: its own program does not look at its rights, and the super-node answers what it should not."""
    monkeypatch.setattr(PeerRights, "may_subscribe", lambda *_: True)
    monkeypatch.setattr("cubecast.supernode.service.Service._check_may_subscribe", lambda *_: None)
    token = authority.join_token(Permission("*", "*", "sport*", "sport*"))
    async with join("p", authority.join_token(ALL)) as publisher, join("thief", token) as thief, numbers(publisher):
        with pytest.raises(cubecast.BoundRefused, match="may neither subscribe to numbers nor relay it"):
            await collect(thief.subscribe("numbers", bound_ms=2000))
        assert not publisher.status().channels[NUMBERS].children


async def test_a_token_that_is_revoked_ends_the_stream_of_its_holder_and_no_other(
    authority: Authority, tmp_path: Path
) -> None:
    token = authority.join_token(ALL)
    async with (
        join("p", authority.join_token(ALL)) as publisher,
        join("good", authority.join_token(ALL)) as good,
        join("bad", token) as bad,
        numbers(publisher),
    ):
        kept = good.subscribe("numbers", bound_ms=2000)
        async with kept, bad.subscribe("numbers", bound_ms=2000) as ending:
            both = [asyncio.create_task(collect(each)) for each in (kept, ending)]
            await eventually(lambda: min(each.stats.frames.received for each in (kept, ending)) > 10)
            revoke(tmp_path / "state", authority.verifier.join_id(token))
            async with asyncio.timeout(ENDS_S):
                with pytest.raises(cubecast.UpstreamLost, match="revoked"):
                    await both[1]
            before = kept.stats.frames.received
            await eventually(lambda: kept.stats.frames.received > before + 10)
            await eventually(lambda: publisher.status().channels[NUMBERS].children == ("good",))
            assert kept.stats.frames.duplicated == 0
            both[0].cancel()


async def test_a_token_that_expires_ends_a_running_stream(authority: Authority) -> None:
    token = authority.join_token(ALL, ttl_s=4.0)
    async with join("p", authority.join_token(ALL)) as publisher, join("s", token) as subscriber, numbers(publisher):
        async with asyncio.timeout(4.0 + ENDS_S):
            with pytest.raises(cubecast.UpstreamLost, match="expired"):
                await collect(subscriber.subscribe("numbers", bound_ms=2000))
