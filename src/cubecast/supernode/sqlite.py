"""The store in one SQLite file, write-ahead logged: a kill -9 at any moment loses nothing that `apply` returned for."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from cubecast.engine.directory.events import (
    DeleteChannel,
    DeleteHost,
    DirectoryEffect,
    SaveChannel,
    SaveHost,
    SaveShape,
)
from cubecast.engine.protocol.ranges import decoded
from cubecast.engine.protocol.records import ChannelRecord, HostRecord
from cubecast.errors import LocalError, MessageError, StoreError
from cubecast.overlay.cube import Cube, parse_cube
from cubecast.supernode.access.names import HOLD_S
from cubecast.types import HostId

T = TypeVar("T")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS overlay (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS hosts (host TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY, key TEXT NOT NULL, free_s REAL) STRICT;
CREATE TABLE IF NOT EXISTS channels (channel TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT;
"""
_STORED = (SaveShape, SaveHost, DeleteHost, SaveChannel, DeleteChannel)
"""Effects that concern the store; the others need no transaction."""
BUSY_S = 5.0
"""Longest wait for another process that has the file open, s: a super-node that is just stopping."""


class SqliteStore:
    """A Store in a file; one process at a time."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the file.

        Raises:
            LocalError: the file cannot be used, or is not a store of this package.
        """
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(_SCHEMA)
        except OSError as error:
            raise LocalError(f"cannot use {path.parent}: {error.strerror}") from error
        except sqlite3.Error as error:
            raise LocalError(
                f"cannot use directory store {path}: {error}; stop the other super-node or choose another --state"
            ) from error

    def first_shape(self, wanted: Cube | None, default: Cube) -> Cube:
        """See Store."""
        row = self._db.execute("SELECT value FROM overlay WHERE name = 'shape'").fetchone()
        if row is None:
            chosen = wanted or default
            self._db.execute("INSERT INTO overlay VALUES ('shape', ?)", (str(chosen),))
            return chosen
        stored = parse_cube(row[0])
        if wanted is not None and wanted != stored:
            raise LocalError(
                f"{self._path} holds an overlay that began as {stored}, not {wanted}; leave --shape out or choose another --state"
            )
        return stored

    def shape(self) -> tuple[Cube, int]:
        """See Store."""
        stored: dict[str, str] = dict(self._db.execute("SELECT name, value FROM overlay").fetchall())
        return parse_cube(stored.get("shape now") or stored["shape"]), int(stored.get("epoch", "0"))

    def hosts(self) -> list[HostRecord]:
        """See Store."""
        rows = self._db.execute("SELECT record FROM hosts ORDER BY host").fetchall()
        return [self._record(row[0], HostRecord) for row in rows]

    def channels(self) -> list[ChannelRecord]:
        """See Store."""
        rows = self._db.execute("SELECT record FROM channels ORDER BY channel").fetchall()
        return [self._record(row[0], ChannelRecord) for row in rows]

    def _record(self, stored: bytes, kind: type[T]) -> T:
        """A record of the file.

        Raises:
            LocalError: it is damaged, or of another version of this package.
        """
        try:
            return decoded(stored, kind)
        except MessageError as error:
            raise LocalError(
                f"directory store {self._path} has a {kind.__name__} that cannot be read: {error}; choose another --state"
            ) from error

    def names(self) -> list[tuple[HostId, str, float | None]]:
        """See Store."""
        return [(HostId(name), key, free_s) for name, key, free_s in self._db.execute("SELECT * FROM names").fetchall()]

    def free_names(self, names: list[HostId]) -> None:
        """See Store."""
        self._run(lambda: self._db.executemany("DELETE FROM names WHERE name = ?", [(name,) for name in names]))

    def clock_s(self) -> float:
        """See Store."""
        row = self._db.execute("SELECT value FROM overlay WHERE name = 'clock'").fetchone()
        return 0.0 if row is None else float(row[0])

    def store_clock(self, now_s: float) -> None:
        """See Store."""
        self._run(lambda: self._db.execute("INSERT OR REPLACE INTO overlay VALUES ('clock', ?)", (repr(now_s),)))

    def apply(self, effects: list[DirectoryEffect], now_s: float) -> None:
        """See Store."""
        stored = [effect for effect in effects if isinstance(effect, _STORED)]
        if stored:
            self._run(lambda: self._write(stored, now_s))

    def _run(self, write: Callable[[], object]) -> None:
        """Writes in one transaction.

        Raises:
            StoreError: it failed, and nothing is written.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            write()
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise StoreError(f"cannot write directory store {self._path}: {error}") from error

    def _write(self, effects: Sequence[DirectoryEffect], now_s: float) -> None:
        for effect in effects:
            match effect:
                case SaveShape(cube, epoch):
                    rows = [("shape now", str(cube)), ("epoch", str(epoch))]
                    self._db.executemany("INSERT OR REPLACE INTO overlay VALUES (?, ?)", rows)
                case SaveHost(record):
                    self._db.execute(
                        "INSERT OR REPLACE INTO hosts VALUES (?, ?)", (record.host, msgspec.json.encode(record))
                    )
                    self._db.execute("INSERT OR REPLACE INTO names VALUES (?, ?, NULL)", (record.host, record.key))
                case DeleteHost(host):
                    self._db.execute("DELETE FROM hosts WHERE host = ?", (host,))
                    self._db.execute("UPDATE names SET free_s = ? WHERE name = ?", (now_s + HOLD_S, host))
                case SaveChannel(channel_record):
                    self._db.execute(
                        "INSERT OR REPLACE INTO channels VALUES (?, ?)",
                        (channel_record.channel, msgspec.json.encode(channel_record)),
                    )
                case DeleteChannel(channel):
                    self._db.execute("DELETE FROM channels WHERE channel = ?", (channel,))
                case _:
                    pass

    def close(self) -> None:
        """See Store."""
        self._db.close()
