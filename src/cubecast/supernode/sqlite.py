"""The store in one SQLite file, write-ahead logged: neither kill -9 nor a power cut loses anything that `apply` returned for."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import groupby
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
from cubecast.engine.protocol.records import ChannelRecord, HostRecord
from cubecast.errors import LocalError, StoreError, UsageError
from cubecast.file_modes import make_private
from cubecast.overlay.cube import Cube, label_count, parse_cube
from cubecast.supernode.access.names import HOLD_S
from cubecast.types import HostId, Label

T = TypeVar("T")

SCHEMA_VERSION = 1
"""Of the tables below, stored as `user_version`. Stores of before versions were stored have 0, and the same tables or some of them."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS overlay (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS hosts (host TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY, key TEXT NOT NULL, free_s REAL) STRICT;
CREATE TABLE IF NOT EXISTS channels (channel TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT;
"""
_SAVE_HOST = "INSERT INTO hosts VALUES (?, ?) ON CONFLICT (host) DO UPDATE SET record = excluded.record"
_TAKE_NAME = """
INSERT INTO names VALUES (?, ?, NULL) ON CONFLICT (name) DO UPDATE SET key = excluded.key, free_s = NULL
WHERE key IS NOT excluded.key OR free_s IS NOT NULL
"""
_STORED = (SaveShape, SaveHost, DeleteHost, SaveChannel, DeleteChannel)
"""Effects that concern the store; the others need no transaction."""
_HINTS = {
    "SQLITE_FULL": "the disk is full; free some space on it",
    "SQLITE_IOERR": "the disk or its file system reports an error, or is full; check it",
    "SQLITE_READONLY": "it cannot be written; run this as the user that owns it, on a file system that is not read-only",
    "SQLITE_CANTOPEN": "it cannot be opened; run this as the user that owns it and its folder",
    "SQLITE_PERM": "it cannot be opened; run this as the user that owns it and its folder",
    "SQLITE_BUSY": "another super-node uses it; stop that one, or choose another --state",
    "SQLITE_LOCKED": "another super-node uses it; stop that one, or choose another --state",
    "SQLITE_NOTADB": "it is not a directory store; move it away, or choose another --state",
    "SQLITE_ERROR": "its tables are not those of this version; move it away: hosts then join anew",
    "SQLITE_CORRUPT": "it is damaged; put a copy of it back, or move it away: hosts then join anew",
}
"""What to do about an error of SQLite, by the beginning of its name."""
TIME_S_MAX = 1e11
"""Greatest time that is taken from a store, s since the Unix epoch: three thousand years."""
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
        self._files = (path, path.with_name(f"{path.name}-wal"))
        """The database, and its write-ahead log."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LocalError(f"cannot use {path.parent}: {error.strerror}; choose another --state") from error
        try:
            make_private(path)  # SQLite gives its other files the same mode
            for suffix in ("-wal", "-shm"):
                if (other := path.with_name(path.name + suffix)).exists():
                    make_private(other)
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        except OSError as error:
            raise LocalError(f"cannot use directory store {path}: {error.strerror}") from error
        except sqlite3.Error as error:
            raise LocalError(f"cannot use directory store {path}: {_hint(error)}") from error
        try:
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._check_version()  # before anything is changed
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # NORMAL loses the last commits in a power cut
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            self._inodes = _inodes(self._files)
        except sqlite3.Error as error:
            self._db.close()
            raise LocalError(f"cannot use directory store {path}: {_hint(error)}") from error
        except LocalError:
            self._db.close()
            raise

    def _check_version(self) -> None:
        """Checks that this version can use the tables, or can make them.

        Raises:
            LocalError: it cannot.
        """
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise LocalError(
                f"directory store {self._path} was made by a newer cubecast; upgrade this one, or choose another --state"
            )
        tables = {row[0] for row in self._db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()}
        if version < 0 or (tables and "overlay" not in tables):
            raise LocalError(f"{self._path} is not a directory store; move it away, or choose another --state")

    def first_shape(self, wanted: Cube | None, default: Cube) -> Cube:
        """See Store."""
        text = self._settings().get("shape")
        if text is None:
            chosen = wanted or default
            self._run(lambda: self._db.execute("INSERT INTO overlay VALUES ('shape', ?)", (str(chosen),)))
            return chosen
        stored = self._parsed("shape", text, parse_cube)
        if wanted is not None and wanted != stored:
            raise LocalError(
                f"{self._path} holds an overlay that began as {stored}, not {wanted}; leave --shape out or choose another --state"
            )
        return stored

    def shape(self) -> tuple[Cube, int]:
        """See Store."""
        stored = self._settings()
        shape = self._parsed("shape", stored.get("shape now") or stored.get("shape", ""), parse_cube)
        return shape, self._parsed("epoch", stored.get("epoch", "0"), int)

    def hosts(self) -> list[HostRecord]:
        """See Store."""
        cube, _ = self.shape()
        seated: dict[Label, HostRecord] = {}
        for name, content in self._rows("SELECT host, record FROM hosts ORDER BY host"):
            record = self._decoded(f"host {name}", content, HostRecord)
            if record.host != name or not 0 <= record.seat < label_count(cube) or record.seat in seated:
                raise self._damaged(f"host {name}", f"its name or seat {record.seat} is wrong")
            seated[record.seat] = record
        return list(seated.values())

    def channels(self) -> list[ChannelRecord]:
        """See Store."""
        rows = self._rows("SELECT channel, record FROM channels ORDER BY channel")
        return [self._decoded(f"channel {name}", content, ChannelRecord) for name, content in rows]

    def names(self) -> list[tuple[HostId, str, float | None]]:
        """See Store."""
        rows = self._rows("SELECT name, key, free_s FROM names")
        return [
            (HostId(str(name)), str(key), free_s if isinstance(free_s, float) else None) for name, key, free_s in rows
        ]

    def clock_s(self) -> float:
        """See Store."""
        return self._parsed("clock", self._settings().get("clock", "0"), _time_s)

    def free_names(self, names: list[HostId]) -> None:
        """See Store."""
        self._run(lambda: self._db.executemany("DELETE FROM names WHERE name = ?", [(name,) for name in names]))

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
        if _inodes(self._files) != self._inodes:  # SQLite would go on writing to files that nobody finds again
            raise StoreError(
                f"directory store {self._path} was deleted or replaced while this super-node used it; start it again: hosts "
                "join anew, and streams go on"
            )
        try:
            self._db.execute("BEGIN IMMEDIATE")
            write()
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise StoreError(f"cannot write directory store {self._path}: {_hint(error)}") from error

    def _write(self, effects: Sequence[DirectoryEffect], now_s: float) -> None:
        for _, alike in groupby(effects, type):  # effects of one kind in a row; the hosts of a new shape are thousands
            run = list(alike)
            self._write_hosts([effect.record for effect in run if isinstance(effect, SaveHost)])
            for effect in run:
                self._write_other(effect, now_s)

    def _write_hosts(self, records: Sequence[HostRecord]) -> None:
        rows = [(record.host, msgspec.json.encode(record)) for record in records]
        self._db.executemany(_SAVE_HOST, rows)
        self._db.executemany(_TAKE_NAME, [(record.host, record.key) for record in records])

    def _write_other(self, effect: DirectoryEffect, now_s: float) -> None:
        match effect:
            case SaveShape(cube, epoch):
                rows = [("shape now", str(cube)), ("epoch", str(epoch))]
                self._db.executemany("INSERT OR REPLACE INTO overlay VALUES (?, ?)", rows)
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

    # ------------------------------------------------------------------ inside

    def _damaged(self, where: str, error: Exception | str) -> LocalError:
        return LocalError(
            f"directory store {self._path} is damaged ({where}: {error}); put a copy of it back, or move it away: hosts then join "
            "anew"
        )

    def _rows(self, query: str) -> list[tuple[object, ...]]:
        """The rows of a query.

        Raises:
            LocalError: they cannot be read.
        """
        try:
            return self._db.execute(query).fetchall()
        except sqlite3.Error as error:
            raise LocalError(f"cannot read directory store {self._path}: {_hint(error)}") from error

    def _settings(self) -> dict[str, str]:
        return {str(name): str(value) for name, value in self._rows("SELECT name, value FROM overlay")}

    def _parsed(self, where: str, text: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(text)
        except (ValueError, UsageError) as error:
            raise self._damaged(where, error) from error

    def _decoded(self, where: str, content: object, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(content if isinstance(content, bytes) else b"", type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._damaged(where, error) from error


def _inodes(paths: Iterable[Path]) -> list[int]:
    """Which files there are under these paths; 0 where there is none."""
    found: list[int] = []
    for path in paths:
        try:
            found.append(path.stat().st_ino)
        except OSError:
            found.append(0)
    return found


def _time_s(text: str) -> float:
    """A time, s since the Unix epoch.

    Raises:
        ValueError: it is none.
    """
    time_s = float(text)
    if not 0 <= time_s < TIME_S_MAX:
        raise ValueError(f"{text} is no time")
    return time_s


def _hint(error: sqlite3.Error) -> str:
    """What SQLite says, and what to do about it."""
    name = getattr(error, "sqlite_errorname", "")
    hints = [hint for start, hint in _HINTS.items() if name.startswith(start)]
    return f"{error}: {hints[0]}" if hints else str(error)
