"""Events and listings as JSON for programs: one object in each line of standard output."""

from dataclasses import asdict

import msgspec

from cubecast.cli.command_runner import emit, json_text
from cubecast.cli.report import text
from cubecast.client import events as ev
from cubecast.engine.protocol.http_bodies import Overview


def print_event(event: ev.Event) -> None:
    """Prints an event; notices and other events that have no JSON form are printed as text, on standard error."""
    match event:
        case ev.Carrying() | ev.ExtensionFailing():
            return  # the statuses carry the same
        case ev.Joined(host, label, _, _, address):
            emit("joined", host=host, label=label, address=address)
        case ev.ParentChanged():
            emit("parent", **asdict(event) | {"at_s": round(event.at_s, 3)})
        case ev.HostStatus():
            emit("status", **_status(event))
        case ev.Announced(channel, tracks):
            emit("announced", channel=channel, tracks=tracks)
        case ev.PublicationStatus(channel, frames, host):
            emit("status", channel=channel, frames=frames, **_status(host))
        case ev.Finished(channel, frames, host):
            emit("finished", channel=channel, frames=frames, **_status(host))
        case _:
            _print_subscription(event)


def _print_subscription(event: ev.Event) -> None:
    match event:
        case ev.Admitted():
            _print_admitted(event)
        case ev.Refused():
            offer = {"bound_ms": event.bound_ms, "rate_bps": event.rate_bps, "loss": event.loss}
            best = {"best_ms": event.bound_ms, "best_path": event.best_path}
            emit("refused", channel=event.channel, **best, offer=offer, reason=event.reason)
        case ev.Receiving(channel, tracks):
            emit("receiving", channel=channel, tracks=tracks)
        case ev.SubscriptionStatus(channel, summary, compliance, host):
            contract = {} if compliance is None else {"contract": asdict(compliance)}
            emit("status", channel=channel, **asdict(summary), **contract, **_status(host))
        case ev.Ended():
            _print_ended(event)
        case _:
            _print_derived(event)


def _print_derived(event: ev.Event) -> None:
    match event:
        case ev.DerivedAnnounced(channel, source, tracks, input_ms):
            emit("announced", channel=channel, source=source, tracks=tracks, input_ms=input_ms)
        case ev.JobAnnounced(channel, source, host):
            emit("announced", channel=channel, source=source, host=host)
        case ev.DerivedStatus(channel, progress):
            emit("status", channel=channel, **asdict(progress))
        case ev.JobStatus(channel, host, state, reason, progress):
            emit("status", host=host, state=state, reason=reason, channel=channel, **asdict(progress))
        case ev.DerivedFinished(channel, progress):
            emit("finished", channel=channel, **asdict(progress))
        case _:
            text.print_event(event)


def _print_admitted(event: ev.Admitted) -> None:
    emit(
        "admitted",
        channel=event.channel,
        promised_ms=round(event.promised_ms, 2),
        spread_ms=round(event.spread_ms, 2),
        path=event.path,
        loss=round(event.loss, 6),
        rate_bps=None if event.rate_bps is None else round(event.rate_bps),
        clock_offset_ms=round(event.clock_offset_ms, 2),
        clock_uncertainty_ms=round(event.clock_uncertainty_ms, 2),
    )


def _print_ended(event: ev.Ended) -> None:
    emit(
        "summary",
        channel=event.channel,
        **asdict(event.summary),
        path=event.path,
        catch_up=event.catch_up,
        gaps=event.gaps,
        replayed=event.replayed,
        filled=event.filled,
        rejected=asdict(event.rejected),
        clock_correction_ms=event.clock_correction_ms,
        contract=asdict(event.compliance),
        **_status(event.host),
    )


def _status(host: ev.HostStatus) -> dict[str, object]:
    return asdict(host)


def print_overview(overview: Overview) -> None:
    """Prints what the super-node knows as one JSON object."""
    print(json_text(msgspec.to_builtins(overview)))
