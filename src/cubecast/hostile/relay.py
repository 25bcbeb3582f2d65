"""A relay that does to a channel's frames what it likes: its children are served from a copy that passes through its hands."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from enum import StrEnum

import moq
from msgspec.structs import replace

from cubecast.engine.protocol.messages import Confirm, Heartbeat, Message, PathOffer, PathUpdate
from cubecast.engine.protocol.path import Contract
from cubecast.host.channel.tracks import BROADCAST
from cubecast.host.config import HostConfig
from cubecast.host.media.channels import MARK
from cubecast.host.media.links import LINK_PATH
from cubecast.host.open_host import open_host
from cubecast.host.peer_rights import PeerRights
from cubecast.hostile.target import Outcome, Target
from cubecast.types import HostId

MEDIA_TRACKS_MAX = 16
"""Tracks `0` to `15` of a channel carry media."""
BOUND_MS = 60_000.0
"""The bound with which the relay subscribes, ms: any path keeps it."""
FAN_OUT = 64
"""Copies that the relay offers to send: more than any honest host, so that many are fed by it."""
SHARE = 4
"""A relay that swallows some frames swallows one in so many."""


class Mischief(StrEnum):
    """What is done to the media frames."""

    NONE = "none"
    SWALLOW = "swallow"
    SWALLOW_SOME = "swallow-some"
    ALTER = "alter"
    REPLAY = "replay"


class FalseCopy:
    """An origin that shows a channel as it arrives, until mischief begins."""

    def __init__(self, source: moq.OriginProducer, host: HostId) -> None:
        self.origin = moq.OriginProducer(cache_capacity_bytes=32 << 20)
        self.mischief = Mischief.NONE
        self.touched = 0
        """Frames that were not passed on as they came."""
        self._host = host
        self._source = source
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begins to copy."""
        self._spawn(self._copy())

    def stop(self) -> None:
        """Ends the copying."""
        for task in self._tasks:
            task.cancel()

    async def _copy(self) -> None:
        source = await self._source.consume().announced_broadcast(BROADCAST)
        mark = self.origin.create_broadcast(f"{MARK}{self._host}")
        broadcast = self.origin.create_broadcast(BROADCAST)
        requests = broadcast.dynamic()
        broadcast.announce()
        mark.announce()
        with suppress(moq.Error):
            async for request in requests:
                self._spawn(self._copy_track(source, request))

    async def _copy_track(self, source: moq.BroadcastConsumer, request: moq.TrackRequest) -> None:
        with suppress(moq.Error):
            name = request.name
            track = await source.subscribe_track(name, moq.Subscription(max_age_us=10_000_000))
            copy = request.accept(track.info())
            async for group in track.groups_as_arrived():
                self._spawn(self._copy_group(group, copy, media=name.isdecimal() and int(name) < MEDIA_TRACKS_MAX))

    async def _copy_group(self, group: moq.GroupConsumer, copy: moq.TrackProducer, *, media: bool) -> None:
        with suppress(moq.Error):
            into, before = copy.create_group(group.sequence), b""
            number = 0
            async for frame in group:
                number += 1
                payload = frame.payload
                if media and self.mischief is not Mischief.NONE:
                    payload = self._changed(payload, before, number)
                before = frame.payload
                if payload:
                    into.write_frame(payload, frame.timestamp_us)
            into.finish()

    def _changed(self, payload: bytes, before: bytes, number: int) -> bytes:
        """What is sent in place of a frame; empty for nothing."""
        match self.mischief:
            case Mischief.SWALLOW:
                changed = b""
            case Mischief.SWALLOW_SOME:
                changed = b"" if number % SHARE == 0 else payload
            case Mischief.ALTER:
                changed = payload[:-1] + bytes([payload[-1] ^ 1])
            case Mischief.REPLAY:
                changed = before or payload
            case Mischief.NONE:
                changed = payload
        self.touched += changed != payload
        return changed

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _without_delay(message: Message) -> Message:
    match message:
        case PathOffer(metrics=metrics) | Confirm(metrics=metrics) | PathUpdate(metrics=metrics):
            return replace(message, metrics=replace(metrics, delay_ms=0.0, spread_ms=0.0))
        case Heartbeat(carried=carried):
            boasts = (replace(c, metrics=replace(c.metrics, delay_ms=0.0, spread_ms=0.0)) for c in carried)
            return replace(message, carried=tuple(boasts))
        case _:
            return message


async def relay(target: Target, mischief: Mischief, begun: asyncio.Event) -> Outcome:
    """Joins as a good relay, and does mischief to what its children get once `begun` is set."""
    name = HostId("mallory")
    copies: list[FalseCopy] = []
    serve = moq.Request.set_publish

    def set_publish(request: moq.Request, origin: moq.OriginProducer | None) -> None:
        """Serves children from a copy; the links' messages, and what it sends to itself, are not touched."""
        if origin is not None and not request.path.strip("/").startswith((LINK_PATH, ".")):
            copy = FalseCopy(origin, name)
            copies.append(copy)
            copy.start()
            origin = copy.origin
        serve(request, origin)

    shown = PeerRights.signed

    def boasting(rights: PeerRights, message: Message) -> Message:
        """Promises no delay at all, so that many want it as their parent."""
        return shown(rights, _without_delay(message))

    PeerRights.signed = boasting  # type: ignore[assignment, method-assign]
    moq.Request.set_publish = set_publish  # type: ignore[assignment, method-assign]
    config = HostConfig(
        name,
        target.supernode,
        target.token,
        listen=target.listen,
        advertise=target.advertise,
        source=target.source,
        fan_out=FAN_OUT,
    )
    try:
        async with open_host(config, lambda _: None) as host:
            subscription = await host.subscribe(target.channel, Contract(BOUND_MS))
            print('{"event": "ready"}', flush=True)
            await begun.wait()
            for copy in copies:
                copy.mischief = mischief
            await asyncio.sleep(target.seconds)
            subscription.release()
    finally:
        moq.Request.set_publish = serve  # type: ignore[method-assign]
        PeerRights.signed = shown  # type: ignore[method-assign]
        for copy in copies:
            copy.stop()
    touched = sum(copy.touched for copy in copies)
    return Outcome(False, f"{touched} frames of {len(copies)} children were not passed on as they came")
