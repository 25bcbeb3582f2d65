"""`cubecast subscribe CHANNEL --bound 150ms`: receives a channel within a bound, into a file or a player."""

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from cubecast.cli.arguments import Parser, add_contract_options, add_host_options, host_config, milliseconds
from cubecast.cli.command_runner import emit, held, notify, serve
from cubecast.cli.report.host_status import STATUS_S, status, tell_joined
from cubecast.engine.host.effects import Admitted
from cubecast.engine.protocol.path import NUMBER_MAX, Contract
from cubecast.engine.protocol.records import Compliance, check_name
from cubecast.errors import BoundRefused, MediaError, OutputClosedError, SubscriptionError, UsageError
from cubecast.frames import TrackFormat
from cubecast.host.config import HostConfig
from cubecast.host.local.reception_stats import ReceptionStats
from cubecast.host.local.subscription import Subscription
from cubecast.host.open_host import open_host
from cubecast.host.runtime import HostRuntime
from cubecast.media.sinks import Container, MediaSink, NullSink, Sink, container_for
from cubecast.types import ChannelName

BOUND_DEFAULT_MS = 1000.0
TOLD_S = 5.0
"""A user is told of a violated contract this often at most."""


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(prog="cubecast subscribe", description="Receive a channel within bounds on latency, rate and loss.")
    parser.add_argument("channel", help="the channel's name")
    parser.add_argument(
        "--bound",
        type=milliseconds,
        default=BOUND_DEFAULT_MS,
        metavar="TIME",
        help="latest a frame may arrive after its capture, such as 150ms or 0.2s (1s)",
    )
    add_contract_options(parser)
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
    contract = Contract(args.bound, args.rate, args.loss)
    reception = Reception(ChannelName(args.channel), contract, output, hold=args.hold)
    try:
        return serve(_subscribe(config, reception, args.json, stay=args.stay))
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
            raise MediaError(f"cannot write {name}: {error.strerror}; choose another file") from error

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
        piped = self._name == "-"
        return MediaSink(file, "standard output" if piped else self._name, container, tracks, beside=not piped)

    def abandon(self) -> None:
        """Closes what no sink took over, and takes away a file that was made for nothing."""
        if self._file is None:
            return
        self._file.close()
        if self._is_new:
            Path(self._name).unlink(missing_ok=True)


class Reception:
    """A subscription of a running host and where it goes: `run` it to its end; `report` tells programs how it fares."""

    def __init__(self, channel: ChannelName, contract: Contract, output: Output, *, hold: bool = False) -> None:
        self.channel = channel
        self.output = output
        self._contract = contract
        self._hold = hold
        self._stats = ReceptionStats(contract.bound_ms)
        self._subscription: Subscription | None = None

    async def run(self, host: HostRuntime, json: bool) -> None:
        """Subscribes, and writes what comes.

        Raises:
            SubscriptionError: refused, or the stream was lost.
            MediaError: the output cannot be written.
        """
        if self._hold:
            await held()
        self._subscription = subscription = await self._admitted(host, json)
        await subscription.open()
        sink = self.output.sink(subscription.tracks)
        tracks = [str(track) for track in subscription.tracks]
        if json:
            emit("receiving", channel=self.channel, tracks=tracks)
        else:
            notify(f"receiving {'; '.join(tracks)} of {self.channel}")
        watching = asyncio.create_task(self._watch(subscription))
        try:
            async with aclosing(subscription.frames()) as frames:
                async for item in frames:
                    if self._stats.add(item, subscription.delay_ms(item)) and not isinstance(sink, NullSink):
                        await asyncio.to_thread(sink.write, item.frame)
        except OutputClosedError:
            notify("the output was closed")
        finally:
            watching.cancel()
            await asyncio.to_thread(sink.close)
            self._tell_summary(host, subscription, json)

    async def report(self, host: HostRuntime) -> None:
        """Says how it fares, until cancelled."""
        while True:
            await asyncio.sleep(STATUS_S)
            here = next((branch for branch in host.view().branches if branch.channel == self.channel), None)
            if here is not None and here.contract is not None:
                self._stats.path = here.path
            told = {} if self._subscription is None else {"contract": asdict(self._subscription.compliance)}
            emit("status", channel=self.channel, **self._stats.summary(None), **told, **status(host))

    async def _admitted(self, host: HostRuntime, json: bool) -> Subscription:
        try:
            subscription = await host.subscribe(self.channel, self._contract)
        except BoundRefused as refused:
            if json:
                offer = {"bound_ms": refused.bound_ms, "rate_bps": refused.rate_bps, "loss": refused.loss}
                path = list(refused.best_path)
                emit(
                    "refused",
                    channel=self.channel,
                    best_ms=refused.bound_ms,
                    best_path=path,
                    offer=offer,
                    reason=str(refused),
                )
            raise
        _tell_admitted(subscription.terms, json)
        return subscription

    async def _watch(self, subscription: Subscription) -> None:
        """Tells the user when the contract was violated."""
        before = subscription.compliance
        while True:
            await asyncio.sleep(TOLD_S)
            now = subscription.compliance
            if now.violated_s > before.violated_s:
                notify(f"{self.channel}: contract violated in {_violations(now, before)}")
            before = now

    def _tell_summary(self, host: HostRuntime, subscription: Subscription, json: bool) -> None:
        tally, compliance = self._stats, subscription.compliance
        summary = tally.summary(subscription.published)
        if json:
            emit(
                "summary",
                channel=self.channel,
                **summary,
                path=list(tally.path),
                catch_up=tally.catch_up,
                gaps=list(tally.gaps),
                **subscription.repaired,
                untimed=tally.untimed,
                clock_correction_ms=subscription.clock_correction_ms,
                contract=asdict(compliance),
                **status(host),
            )
            return
        delay, frames = summary["delay_ms"], summary["frames"]
        assert isinstance(delay, dict)
        assert isinstance(frames, dict)
        lost = "loss unknown" if frames["lost"] is None else f"{frames['lost']} lost"
        told = f"{self.channel} ended: {tally.received} frames, {lost}"
        if delay["p50"] is not None:
            late = tally.timed - tally.in_time
            told += f"; delay p50 {delay['p50']:.0f} ms, p99 {delay['p99']:.0f} ms; "
            told += f"{late} later than the bound of {self._contract.bound_ms:.0f} ms"
        broken = f", violated in {_violations(compliance, Compliance())}" if compliance.violated_s else ""
        notify(f"{told}; contract kept in {compliance.kept_s} s{broken}")


def _violations(now: Compliance, before: Compliance) -> str:
    """The violated seconds since then, and by what."""
    seconds = {
        "late": now.late_s - before.late_s,
        "lost": now.lost_s - before.lost_s,
        "slow": now.slow_s - before.slow_s,
    }
    by = ", ".join(f"{name} in {count}" for name, count in seconds.items() if count)
    return f"{now.violated_s - before.violated_s} s ({by})"


async def _subscribe(config: HostConfig, reception: Reception, json: bool, *, stay: bool) -> int:
    async with open_host(config, notify) as host, asyncio.TaskGroup() as group:
        tell_joined(host, json)
        reporter = group.create_task(reception.report(host)) if json else None
        try:
            try:
                await reception.run(host, json)
            except SubscriptionError as error:
                if not stay:
                    raise
                notify(f"{error}; relaying for others")
            if stay:
                await asyncio.Event().wait()
        finally:
            if reporter is not None:
                reporter.cancel()
    return 0


def _tell_admitted(terms: Admitted, json: bool) -> None:
    metrics, contract = terms.metrics, terms.contract
    if json:
        emit(
            "admitted",
            channel=terms.channel,
            promised_ms=round(metrics.delay_ms, 2),
            spread_ms=round(metrics.spread_ms, 2),
            path=list(metrics.path),
            loss=round(metrics.loss, 6),
            rate_bps=None if metrics.rate_bps >= NUMBER_MAX else round(metrics.rate_bps),
            clock_offset_ms=round(metrics.clock_offset_ms, 2),
            clock_uncertainty_ms=round(metrics.clock_uncertainty_ms, 2),
        )
        return
    bounds = [f"bound {contract.bound_ms:.0f} ms"]
    bounds += [f"rate {contract.rate_bps / 1000:.0f} kbit/s"] if contract.rate_bps else []
    bounds += [f"loss {contract.loss:.2%}"] if contract.loss < 1 else []
    notify(
        f"{terms.channel} admitted: {metrics.delay_ms:.0f} ms promised (late frames + {metrics.spread_ms:.0f}) over "
        f"{len(metrics.path) - 1} hop(s), {', '.join(bounds)}"
    )
