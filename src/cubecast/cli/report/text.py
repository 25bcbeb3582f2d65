"""Events and listings as text for people: lines on standard error, tables on standard output."""

from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cubecast.cli.command_runner import notify
from cubecast.client import events as ev
from cubecast.engine.protocol.http_bodies import Overview
from cubecast.engine.protocol.records import Compliance
from cubecast.texts import printable


def print_event(event: ev.Event) -> None:
    """Prints an event; those meant for programs only, such as statuses, print nothing."""
    line = _line(event)
    if line:
        notify(line)


def _line(event: ev.Event) -> str:
    match event:
        case ev.Notice(text):
            return text
        case ev.Joined():
            place = f"joined at label {event.seat} of {event.shape}, reachable at {event.address} (UDP)"
            return f"host {event.host} {place}"
        case ev.ParentChanged():
            return f"{event.channel} now comes from {event.after} instead of {event.before} ({event.reason})"
        case ev.Carrying(children):
            return "carrying " + (", ".join(f"{c} to {n} host(s)" for c, n in children.items()) or "nothing")
        case ev.Waiting(channel):
            return f"channel {channel!r} is not announced yet; waiting for it"
        case ev.ChannelFailed(_, reason):
            return f"{reason}; the host continues without it"
        case ev.EventsDropped(count):
            return f"{count} events were dropped"
        case ev.Announced(channel, tracks):
            return f"channel {channel} announced: {'; '.join(tracks)}"
        case ev.Finished(channel, frames):
            return f"channel {channel} finished after {sum(frames)} frames"
        case _:
            return _subscription_line(event) or _derived_line(event)


def _subscription_line(event: ev.Event) -> str:
    match event:
        case ev.Admitted():
            return _admitted(event)
        case ev.Receiving(channel, tracks):
            return f"receiving {'; '.join(tracks)} of {channel}"
        case ev.ContractViolated(channel, seconds):
            return f"{channel}: contract violated in {_violations(seconds)}"
        case ev.Ended():
            return _ended(event)
        case _:
            return ""


def _derived_line(event: ev.Event) -> str:
    match event:
        case ev.DerivedAnnounced(channel, source, tracks):
            return f"channel {channel} is made from {source}: {'; '.join(tracks)}"
        case ev.JobAnnounced(channel, source, host):
            return f"channel {channel} is made from {source} at {host}"
        case ev.ExtensionFailing(channel, progress):
            return f"channel {channel}: {progress.failures} failure(s) so far, the last one: {progress.last_failure}"
        case ev.ExtensionUpgraded(_, extension):
            return f"{extension} takes over"
        case ev.UpgradeFailed(_, reason):
            return f"{reason}; the previous version continues"
        case ev.DerivedFinished(channel, progress):
            return (
                f"channel {channel} finished: {progress.frames_in} frames in, {progress.frames_out} out, "
                f"{progress.failures} failure(s), {progress.processing_ms or 0.0:.1f} ms of processing"
            )
        case _:
            return ""


def _admitted(event: ev.Admitted) -> str:
    contract = event.contract
    bounds = [f"bound {contract.bound_ms:.0f} ms"]
    bounds += [f"rate {contract.rate_bps / 1000:.0f} kbit/s"] if contract.rate_bps else []
    bounds += [f"loss {contract.loss:.2%}"] if contract.loss < 1 else []
    return (
        f"{event.channel} admitted: {event.promised_ms:.0f} ms promised (late frames + {event.spread_ms:.0f}) over "
        f"{len(event.path) - 1} hop(s), {', '.join(bounds)}"
    )


def _ended(event: ev.Ended) -> str:
    frames, delay, compliance = event.summary.frames, event.summary.delay_ms, event.compliance
    lost = "loss unknown" if frames.lost is None else f"{frames.lost} lost"
    text = f"{event.channel} ended: {frames.received} frames, {lost}"
    if delay.p50 is not None:
        text += f"; delay p50 {delay.p50:.0f} ms, p99 {delay.p99:.0f} ms; "
        text += f"{event.late} later than the bound of {event.bound_ms:.0f} ms"
    rejected = ", ".join(f"{count} {fault}" for fault, count in asdict(event.rejected).items() if count)
    text += f"; not the publisher's: {rejected}" if rejected else ""
    broken = f", violated in {_violations(compliance)}" if compliance.violated_s else ""
    return f"{text}; contract kept in {compliance.kept_s} s{broken}"


def _violations(seconds: Compliance) -> str:
    """The number of violated seconds, and by which terms."""
    terms = {"late": seconds.late_s, "lost": seconds.lost_s, "slow": seconds.slow_s}
    by = ", ".join(f"{name} in {count}" for name, count in terms.items() if count)
    return f"{seconds.violated_s} s ({by})"


def _cells(*texts: str) -> list[Text]:
    """Cells of a table with texts from elsewhere: neither the terminal nor rich obeys anything in them."""
    return [Text(printable(text)) for text in texts]


def print_overview(overview: Overview) -> None:
    """Prints the channels and subscriptions that the super-node knows, as tables."""
    console = Console()
    channels = Table(
        title=f"{len(overview.hosts)} hosts on a cube of {printable(overview.shape)}", title_justify="left"
    )
    for column in ("channel", "publisher", "label", "subscribers"):
        channels.add_column(column)
    for channel in overview.channels:
        channels.add_row(*_cells(channel.channel, channel.publisher, channel.label, str(channel.subscribers)))
    console.print(channels)
    if not overview.subscriptions:
        return
    subscriptions = Table(title="Subscriptions", title_justify="left")
    for column in ("channel", "subscriber", "bound", "promised", "state", "kept", "violated"):
        subscriptions.add_column(column)
    for line in overview.subscriptions:
        promised = "" if line.promised_ms is None else f"{line.promised_ms:.0f} ms"
        seconds = (f"{line.compliance.kept_s} s", f"{line.compliance.violated_s} s")
        texts = _cells(line.channel, line.subscriber, f"{line.bound_ms:.0f} ms", promised, line.state, *seconds)
        subscriptions.add_row(*texts)
    console.print(subscriptions)
