"""What hosts send each other while nothing changes: little, and no more for many channels than for one."""

from collections.abc import Sequence

import pytest

from cubecast.engine.host import effects as fx
from cubecast.engine.host.config import DEFAULT
from cubecast.overlay.cube import Cube
from cubecast.simulation.shells.host import SimulatedHost
from cubecast.simulation.shells.media import MediaSessions
from cubecast.types import ChannelName, HostId
from tests.engine.in_memory import Overlay, random_delays

HOSTS, FAN_OUT, BOUND_MS = 16, 4, 2000.0
SETTLED_S, COUNTED_S = 60.0, 40.0
FRAMES_PER_S_MAX = 8.0
"""Of one host; before, it was 29 with one channel and 56 with four (docs/decisions/0022)."""


def at_rest(channels: Sequence[ChannelName], seed: int, publishers: int = 4, subscribers: int = HOSTS - 4) -> Overlay:
    """An overlay whose hosts publish the channels in turn; some of the others subscribe to all, and time passes.

    Args:
        publishers: number of hosts that publish.
    """
    overlay = Overlay(random_delays(HOSTS, seed), Cube(2, 4), seed=seed, fan_out=FAN_OUT)
    overlay.run(5)
    for number, channel in enumerate(channels):
        overlay.publish(number % publishers, channel)
    overlay.run(1)
    for channel in channels:
        for index in range(publishers, publishers + subscribers):
            assert isinstance(overlay.subscribe(index, BOUND_MS, channel), fx.Admitted)
    overlay.run(SETTLED_S)
    return overlay


def frames_per_s(overlay: Overlay) -> float:
    """Frames of messages a second and host."""
    before = overlay.messages
    overlay.run(COUNTED_S)
    return (overlay.messages - before) / COUNTED_S / HOSTS


def sparsely(monkeypatch: pytest.MonkeyPatch, period_ticks: int) -> None:
    """From now on the publishers of all overlays send one frame in this many ticks."""
    sample, seen = MediaSessions.sample, dict[tuple[int, HostId], int]()

    def now_and_then(self: MediaSessions, here: SimulatedHost) -> None:
        frame = int(self._queue.now / DEFAULT.tick_s / period_ticks)
        if seen.get((id(self), here.host)) != frame:
            seen[id(self), here.host] = frame
            sample(self, here)

    monkeypatch.setattr(MediaSessions, "sample", now_and_then)


@pytest.mark.parametrize("channels", [0, 1, 4])
def test_a_host_at_rest_sends_few_frames(channels: int) -> None:
    overlay = at_rest([ChannelName(f"c{number}") for number in range(channels)], seed=3)
    assert frames_per_s(overlay) <= FRAMES_PER_S_MAX


def test_channels_over_the_same_links_cost_no_further_frames() -> None:
    """One subscriber next to the publisher: the second to fourth channels use the link of the first."""
    one, four = (at_rest([ChannelName(f"c{n}") for n in range(count)], 4, 1, 1) for count in (1, 4))
    assert frames_per_s(four) <= 1.1 * frames_per_s(one)


def test_a_pause_of_the_publisher_moves_no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Media stops for longer than a dead parent is given, and comes back."""
    overlay = at_rest([ChannelName("c")], seed=5)
    changes = sum(here.changes for here in overlay.hosts.values())
    quiet = frames_per_s(overlay)
    with monkeypatch.context() as paused:
        paused.setattr(overlay.media, "sample", lambda _here: None)
        overlay.run(2 * DEFAULT.tree.idle_ticks * DEFAULT.tick_s)
        assert frames_per_s(overlay) <= quiet + FRAMES_PER_S_MAX / 2, "an idle channel costs little"
    overlay.run(2.0)
    assert sum(here.changes for here in overlay.hosts.values()) == changes


def test_a_channel_of_few_frames_costs_little_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a sensor's, with a reading every second."""
    sparsely(monkeypatch, period_ticks=10)
    assert frames_per_s(at_rest([ChannelName("c")], seed=6)) <= FRAMES_PER_S_MAX / 2


def test_a_relay_of_a_channel_with_few_frames_is_found_dead_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    period_ticks = 10
    sparsely(monkeypatch, period_ticks)
    overlay, channel = at_rest([ChannelName("c")], seed=7), ChannelName("c")
    relays = [
        here for here in overlay.hosts.values() for b in here.engine.branches() if b.below.children and not b.publishes
    ]
    orphans = {child for here in relays[:1] for b in here.engine.branches() for child in b.below.children}
    dead = relays[0].host
    overlay.crash(dead)
    longest_ticks = DEFAULT.failure.silent_ticks + period_ticks + DEFAULT.tree.idle_silent_ticks
    overlay.run(longest_ticks * DEFAULT.tick_s)
    assert all(overlay.engines[orphan].upstream(channel) not in (None, dead) for orphan in orphans)
