"""Whatever messages a peer sends, the engine goes on, and everything that it sends itself is in range."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.protocol import frames
from cubecast.engine.protocol import messages as m
from cubecast.engine.protocol.feasibility import FeasibilityDistance
from cubecast.engine.protocol.http_bodies import RelocationRequest, RoutesRequest
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.ranges import END, HOPS_MAX, INTEGER_MAX, NUMBER_MAX, SEQNO_MAX
from cubecast.engine.protocol.records import SubscriptionRecord, Tree
from cubecast.types import ChannelName, HostId, Label
from tests.engine.host.scripted import CHANNEL, ME, PUBLISHER, ScriptedHost, feeding
from tests.wire_values import values

NAME = f"^[A-Za-z0-9_-][A-Za-z0-9._-]*{END}"
A, B = HostId("a"), HostId("b")
KNOWN = st.sampled_from([CHANNEL, CHANNEL, CHANNEL, A, B, ME, PUBLISHER, "x"])
"""Names that mean something to the host, so that its state changes."""
MESSAGES: st.SearchStrategy[m.Message] = values(m.Message, {NAME: KNOWN})
STEPS = st.lists(st.tuples(st.sampled_from([A, B]), MESSAGES, st.integers(0, 2)), min_size=1, max_size=25)


def check(effects: list[fx.Effect]) -> None:
    """Everything that leaves the host is accepted where it arrives."""
    for effect in effects:
        match effect:
            case fx.Send(_, message):
                sent = list(frames.encode([message]))
                assert [each for frame in sent for each in frames.decode(frame)] == [message]
            case fx.Report(record):
                assert msgspec.json.decode(msgspec.json.encode(record), type=SubscriptionRecord) == record
            case fx.FindRoutes(channel, links_ms):
                wanted = RoutesRequest(channel, dict(links_ms))
                assert msgspec.json.decode(msgspec.json.encode(wanted), type=RoutesRequest) == wanted
            case fx.Relocate(channel, bound_ms):
                asked = RelocationRequest(channel, bound_ms)
                assert msgspec.json.decode(msgspec.json.encode(asked), type=RelocationRequest) == asked
            case _:
                pass


class CheckedHost(ScriptedHost):
    """A scripted host whose effects are checked."""

    def handle(self, event: ev.Event) -> list[fx.Effect]:
        effects = super().handle(event)
        check(effects)
        return effects


def joined(state: str) -> ScriptedHost:
    """A host that is idle, searches, receives, or feeds another one."""
    if state == "feeding":
        host, _ = feeding()
        host.__class__ = CheckedHost
        return host
    host = CheckedHost()
    if state == "searching":
        host.search()
    if state == "receiving":
        host.subscribe()
    if state == "publishing":
        host.handle(ev.PublishRequested(CHANNEL, Tree.HYBRID, None))
    return host


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["idle", "searching", "receiving", "feeding", "publishing"]), STEPS)
def test_no_message_of_a_peer_ends_a_host_or_makes_it_send_what_others_refuse(
    state: str, steps: list[tuple[HostId, m.Message, int]]
) -> None:
    host = joined(state)
    for sender, message, ticks in steps:
        host.receive(sender, message)
        host.run(ticks)
    host.run(12)


LONGEST = (*(HostId(f"h{number}") for number in range(HOPS_MAX - 1)), A)
FARTHEST = PathMetrics(
    NUMBER_MAX, NUMBER_MAX, LONGEST, SEQNO_MAX, -NUMBER_MAX, NUMBER_MAX, 1.0, NUMBER_MAX, publication=0
)


@pytest.mark.parametrize("state", ["idle", "searching", "receiving", "feeding"])
@pytest.mark.parametrize(
    "message",
    [
        m.PathRequest(
            INTEGER_MAX,
            CHANNEL,
            0,
            Label(0),
            Contract(-NUMBER_MAX, 0.0, -1.0),
            HOPS_MAX,
            (A,),
            FeasibilityDistance(5, 0),
        ),
        m.PathRequest(1, CHANNEL, 0, Label(1 << 31), Contract(-NUMBER_MAX), HOPS_MAX, LONGEST),
        m.Attach(
            2, CHANNEL, Contract(-NUMBER_MAX, NUMBER_MAX, -1.0), LONGEST, FeasibilityDistance(SEQNO_MAX, INTEGER_MAX)
        ),
        m.PathUpdate(CHANNEL, FARTHEST, 0, Label(0), flowing=True, fed=True),
        m.PathUpdate(
            CHANNEL, PathMetrics(NUMBER_MAX, NUMBER_MAX, (PUBLISHER, A), SEQNO_MAX, NUMBER_MAX), 1, Label(1), True, True
        ),
        m.Pong(-NUMBER_MAX, NUMBER_MAX),
        m.Heartbeat((m.Carried(CHANNEL, FARTHEST, INTEGER_MAX),), True, False, -NUMBER_MAX, -NUMBER_MAX, -NUMBER_MAX),
        m.Ended(CHANNEL, False, A, "x" * 1024),
        m.PathRefusal(1, ChannelName(""), "x" * 1024, 0),
        m.Relatives(CHANNEL, ()),
    ],
    ids=lambda message: type(message).__name__,
)
def test_the_greatest_and_least_values_end_no_host(state: str, message: m.Message) -> None:
    host = joined(state)
    for sender in (A, B):
        host.receive(sender, m.Pong(host.now, NUMBER_MAX))  # its clock is far ahead
        host.receive(sender, message)
        host.run(3)
    host.run(20)


def test_clocks_that_are_far_apart_add_up_to_what_can_be_sent() -> None:
    host = joined("receiving")
    parent = host.parent
    assert parent is not None
    host.receive(parent, m.Pong(host.now, NUMBER_MAX))
    there = PathMetrics(1.0, 1.0, (PUBLISHER, parent), host.ticks + 1, clock_offset_ms=NUMBER_MAX)
    host.receive(parent, m.PathUpdate(CHANNEL, there, 0, Label(0), flowing=False, fed=True))
    metrics = host.engine.metrics(CHANNEL)
    assert metrics is not None
    assert metrics.clock_offset_ms == NUMBER_MAX
