"""Writes a trace: one line of JSON for each event that an engine handled, with the effects that it caused.

A line has the time `t` (s since the Unix epoch, by the host's own clock), the host `at`, the `event` and its `effects`, each
with its `kind`. Where an effect decides about a subscription, `considered` lists the hosts that were known to carry the
channel. Ticks and samples without effects are left out. Several processes may append to one file: each line is one write.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import msgspec

from cubecast.engine.directory.events import DirectoryEffect, DirectoryEvent
from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.engine import HostEngine
from cubecast.engine.protocol import messages as m
from cubecast.errors import UsageError

DIRECTORY = "supernode"
"""Stands for the directory in `at`."""
BYTES_MAX = 1 << 30
"""A trace is ended at this length, bytes, with a line that says so; a host with one channel writes about 5 kB a second."""
QUIET = (ev.Tick, ev.LinkSampled, ev.MediaSampled, ev.ProcessingMeasured, ev.ContractMeasured)
"""Events that are left out if they have no effects."""
ROUTINE = (m.Heartbeat, m.Ping, m.Pong)
"""Messages that are left out likewise, and effects that only send them."""
DECISIONS = (fx.Admitted, fx.Refused, fx.ParentChanged)


class TraceWriter:
    """An open trace."""

    def __init__(self, path: Path, bytes_max: int = BYTES_MAX) -> None:
        """Opens the file; lines are appended.

        Raises:
            UsageError: it cannot be opened.
        """
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise UsageError(f"--trace {path}: {error.strerror}; name a file that can be written") from error
        self._left = bytes_max

    def host(self, now: float, engine: HostEngine, event: ev.Event, effects: Iterable[fx.Effect]) -> None:
        """Writes a line for an event of a host's engine, after it was handled."""
        caused = [
            effect for effect in effects if not (isinstance(effect, fx.Send) and isinstance(effect.message, ROUTINE))
        ]
        routine = isinstance(event, ev.Received) and isinstance(event.message, ROUTINE)
        if not caused and (routine or isinstance(event, QUIET)):
            return
        channels = {effect.channel for effect in caused if isinstance(effect, DECISIONS)}
        considered = {channel: engine.considered(channel) for channel in sorted(channels)}
        self._write(now, engine.host, event, caused, {"considered": considered} if considered else {})

    def directory(self, now: float, event: DirectoryEvent, effects: Iterable[DirectoryEffect]) -> None:
        """Writes a line for an event of the directory's engine."""
        caused = list(effects)
        if caused or type(event).__name__ not in ("LeaseTick", "HostRefreshed", "LinksReported"):
            self._write(now, DIRECTORY, event, caused, {})

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def _write(
        self,
        now: float,
        at: str,
        event: ev.Event | DirectoryEvent,
        effects: Sequence[fx.Effect | DirectoryEffect],
        more: Mapping[str, object],
    ) -> None:
        if self._left <= 0:
            return
        line = {
            "t": round(now, 4),
            "at": at,
            "event": _kind(event),
            "effects": [_kind(each) for each in effects],
            **more,
        }
        data = msgspec.json.encode(line) + b"\n"
        self._left -= len(data)
        if self._left <= 0:
            data = (
                msgspec.json.encode({"t": round(now, 4), "at": at, "ended": "the trace is as long as it may be"})
                + b"\n"
            )
        os.write(self._file, data)


def _kind(value: ev.Event | fx.Effect | DirectoryEvent | DirectoryEffect) -> dict[str, object]:
    """An event or effect as a dict with its kind; messages have one of their own."""
    return {"kind": type(value).__name__} | {each.name: getattr(value, each.name) for each in fields(value)}
