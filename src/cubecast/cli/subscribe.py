"""`cubecast subscribe CHANNEL --bound 150ms`: receives a channel within a bound, into a file or a player."""

import asyncio
import os
import sys
from collections import OrderedDict, deque
from collections.abc import Collection, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cubecast.cli.arguments import Parser, add_host_options, host_config, milliseconds
from cubecast.cli.host import status, tell_joined
from cubecast.cli.running import emit, held, notify, serve
from cubecast.engine.effects import Admitted
from cubecast.engine.records import check_name
from cubecast.errors import BoundRefused, MediaError, OutputClosedError, SubscriptionError, UsageError
from cubecast.host.config import HostConfig
from cubecast.host.reader import ReceivedFrame
from cubecast.host.runtime import HostRuntime, running
from cubecast.host.subscription import Subscription
from cubecast.media.frames import TrackFormat
from cubecast.media.sinks import Container, MediaSink, NullSink, Sink, container_for
from cubecast.types import ChannelName

BOUND_DEFAULT_MS = 1000.0
STATUS_S = 0.5
DELAYS_MAX = 20_000
"""Delays kept: percentiles are over the last so many frames."""
GAP_MS, GAPS_MAX = 60.0, 500
RECENT_MAX = 300
"""Frames that `recent_ms` is over."""
SEEN_MAX = 20_000
"""Frames remembered to tell a duplicate."""


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(prog="cubecast subscribe", description="Receive a channel within a bound on latency.")
    parser.add_argument("channel", help="the channel's name")
    parser.add_argument(
        "--bound",
        type=milliseconds,
        default=BOUND_DEFAULT_MS,
        metavar="TIME",
        help="latest a frame may arrive after its capture, such as 150ms or 0.2s (1s)",
    )
    parser.add_argument("-o", "--output", default="", metavar="FILE|-", help="write MPEG-TS or fragmented MP4 there")
    parser.add_argument("--format", type=Container, choices=list(Container), help="ts or mp4 (by the file's name)")
    parser.add_argument("--hold", action="store_true", help="join, then subscribe when a line comes on standard input")
    parser.add_argument("--stay", action="store_true", help="stay in the overlay as a relay when it is over")
    parser.add_argument("--json", action="store_true", help="say what happens as JSON lines")
    add_host_options(parser)
    args = parser.parse_args(arguments)
    if args.json and args.output == "-":
        raise UsageError("--json and -o - both need standard output; write to a file instead")
    check_name("channel name", args.channel)
    config = host_config(args)
    output = Output(args.output, args.format)
    wish = _Wish(ChannelName(args.channel), args.bound, output, args.hold, args.stay)
    try:
        return serve(_subscribe(config, wish, args.json))
    finally:
        output.abandon()


class Output:
    """Where frames go.

    Opened before anything else, so that a bad path is told at once, but emptied only for a stream that was admitted: a
    refusal leaves an older file as it was.
    """

    def __init__(self, name: str, container: Container | None) -> None:
        """Opens the output.

        Args:
            name: a path, `-` for standard output, or nothing.

        Raises:
            MediaError: it cannot be written.
        """
        self._name = name
        self._container = container
        self._is_new = bool(name) and name != "-" and not Path(name).exists()
        self._file: BinaryIO | None = None
        try:
            if name == "-":
                self._file = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
            elif name:
                self._file = Path(name).open("ab", buffering=0)  # noqa: SIM115  closed by its sink, or by `abandon`
        except OSError as error:
            raise MediaError(f"cannot write {name}: {error.strerror}; choose another file with -o") from error

    def sink(self, tracks: Sequence[TrackFormat]) -> Sink:
        """The sink for the channel's tracks; an older file is overwritten from here on.

        Raises:
            MediaError: a codec has no place in the container.
        """
        if self._file is None:
            return NullSink()
        container = container_for(self._name, self._container, tracks)
        if self._name != "-":
            with suppress(OSError):  # a device or a named pipe
                self._file.truncate(0)
        file, self._file = self._file, None
        return MediaSink(file, "standard output" if self._name == "-" else self._name, container, tracks)

    def abandon(self) -> None:
        """Closes what no sink took over, and takes away a file that was made for nothing."""
        if self._file is None:
            return
        self._file.close()
        if self._is_new:
            Path(self._name).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the user asked for."""

    channel: ChannelName
    bound_ms: float
    output: Output
    hold: bool
    stay: bool


@dataclass(slots=True)
class Tally:
    """What one subscriber received."""

    bound_ms: float = 0.0
    clock_correction_ms: float = 0.0
    since_s: float = 0.0
    """Frames captured before this are catch-up: the start of a group that was under way when we came."""
    catch_up: int = 0
    path: tuple[str, ...] = ()
    """Hosts that the channel came over last, the publisher first."""
    received: int = 0
    seen: OrderedDict[tuple[int, int], None] = field(default_factory=OrderedDict)
    first: dict[int, int] = field(default_factory=dict)
    duplicated: int = 0
    untimed: int = 0
    timed: int = 0
    in_time: int = 0
    """Of the timed frames, those within the bound."""
    gaps: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=GAPS_MAX))
    """Times without a frame of GAP_MS or more: when they ended, s since the Unix epoch, and how long, ms."""
    last_s: float | None = None
    recent_ms: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_MAX))
    delays_ms: deque[float] = field(default_factory=lambda: deque(maxlen=DELAYS_MAX))

    def expect(self, terms: Admitted, now_s: float) -> None:
        """Begins to count: corrects for the publisher's clock where it is surely another one than ours."""
        self.bound_ms = terms.bound_ms
        if abs(terms.reach.clock_offset_ms) > terms.reach.clock_uncertainty_ms:
            self.clock_correction_ms = terms.reach.clock_offset_ms
        self.since_s = now_s + self.clock_correction_ms / 1000

    def add(self, item: ReceivedFrame) -> bool:
        """Counts one frame; False for a frame seen before."""
        frame = item.frame
        key = (frame.track, frame.pts_us)
        if key in self.seen:
            self.duplicated += 1
            return False
        self.seen[key] = None
        if self.last_s is not None and (item.arrived_s - self.last_s) * 1000 >= GAP_MS:
            self.gaps.append((round(item.arrived_s, 3), round((item.arrived_s - self.last_s) * 1000, 1)))
        self.last_s = item.arrived_s
        self.received += 1
        if len(self.seen) > SEEN_MAX:
            self.seen.popitem(last=False)
        if item.number is None or item.captured_s is None:
            self.untimed += 1
            return True
        self.first[frame.track] = min(item.number, self.first.get(frame.track, item.number))
        if item.captured_s < self.since_s:
            self.catch_up += 1
            return True
        delay_ms = (item.arrived_s - item.captured_s) * 1000 + self.clock_correction_ms
        self.timed += 1
        self.in_time += delay_ms <= self.bound_ms
        self.delays_ms.append(delay_ms)
        self.recent_ms.append(delay_ms)
        return True

    def summary(self, published: tuple[int, ...] | None) -> dict[str, object]:
        """Counts and delays; lost counts from the first frame received of each track."""
        due = None if published is None else sum(n - self.first.get(t, 0) for t, n in enumerate(published))
        return {
            "frames": {
                "published": due,
                "received": self.received,
                "lost": None if due is None else due - self.received,
                "duplicated": self.duplicated,
            },
            "delay_ms": percentiles(self.delays_ms),
            "recent_ms": percentiles(self.recent_ms),
            "in_time": round(self.in_time / self.timed, 4) if self.timed else None,
        }


def percentiles(values: Collection[float]) -> dict[str, float | None]:
    """p50 and p99, ms; None without values."""
    if not values:
        return {"p50": None, "p99": None}
    p50, p99 = np.percentile(np.fromiter(values, dtype=np.float64), [50, 99])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2)}


async def _subscribe(config: HostConfig, wish: _Wish, json: bool) -> int:
    async with running(config, notify) as host, asyncio.TaskGroup() as group:
        tell_joined(host, json)
        tally = Tally()
        reporter = group.create_task(_report(host, tally, json))
        try:
            if wish.hold:
                await held()
            try:
                await _receive(host, wish, tally, json)
            except SubscriptionError as error:
                if not wish.stay:
                    raise
                notify(f"{error}; relaying for others")
            if wish.stay:
                await asyncio.Event().wait()
        finally:
            reporter.cancel()
    return 0


async def _receive(host: HostRuntime, wish: _Wish, tally: Tally, json: bool) -> None:
    subscription = await _admitted(host, wish, json)
    await subscription.open()
    tally.expect(subscription.terms, host.clock())
    sink = wish.output.sink(subscription.tracks)
    tracks = [str(track) for track in subscription.tracks]
    if json:
        emit("receiving", tracks=tracks)
    else:
        notify(f"receiving {'; '.join(tracks)}")
    try:
        async with aclosing(subscription.frames()) as frames:
            async for item in frames:
                if tally.add(item) and not isinstance(sink, NullSink):
                    await asyncio.to_thread(sink.write, item.frame)
    except OutputClosedError:
        notify("the output was closed")
    finally:
        await asyncio.to_thread(sink.close)
        _tell_summary(host, subscription, tally, json)


async def _admitted(host: HostRuntime, wish: _Wish, json: bool) -> Subscription:
    try:
        subscription = await host.subscribe(wish.channel, wish.bound_ms)
    except BoundRefused as refused:
        if json:
            emit("refused", best_ms=refused.best_ms, best_path=list(refused.best_path), reason=str(refused))
        raise
    _tell_admitted(subscription.terms, json)
    return subscription


def _tell_admitted(terms: Admitted, json: bool) -> None:
    reach = terms.reach
    if json:
        emit(
            "admitted",
            promised_ms=round(reach.delay_ms, 2),
            spread_ms=round(reach.spread_ms, 2),
            path=list(reach.path),
            clock_offset_ms=round(reach.clock_offset_ms, 2),
            clock_uncertainty_ms=round(reach.clock_uncertainty_ms, 2),
        )
        return
    hops = len(reach.path) - 1
    notify(
        f"admitted: {reach.delay_ms:.0f} ms promised (late frames + {reach.spread_ms:.0f}) over {hops} hop(s), bound {terms.bound_ms:.0f} ms"
    )


def _tell_summary(host: HostRuntime, subscription: Subscription, tally: Tally, json: bool) -> None:
    terms, summary = subscription.terms, tally.summary(subscription.published)
    if json:
        emit(
            "summary",
            **summary,
            path=list(tally.path),
            catch_up=tally.catch_up,
            gaps=list(tally.gaps),
            **subscription.repaired,
            untimed=tally.untimed,
            clock_correction_ms=tally.clock_correction_ms,
            **status(host),
        )
        return
    delay, frames = summary["delay_ms"], summary["frames"]
    assert isinstance(delay, dict)
    assert isinstance(frames, dict)
    lost = "loss unknown" if frames["lost"] is None else f"{frames['lost']} lost"
    told = f"ended: {tally.received} frames, {lost}"
    if delay["p50"] is not None:
        late = tally.timed - tally.in_time
        told += f"; delay p50 {delay['p50']:.0f} ms, p99 {delay['p99']:.0f} ms; "
        told += f"{late} later than the bound of {terms.bound_ms:.0f} ms"
    notify(told)


async def _report(host: HostRuntime, tally: Tally, json: bool) -> None:
    while json:
        await asyncio.sleep(STATUS_S)
        tally.path = next((branch.path for branch in host.view().branches if branch.bound_ms is not None), tally.path)
        emit("status", **tally.summary(None), **status(host))
