"""Revoked join tokens, and the rights that have ended lately, which every host learns with its next refresh.

`cubecast token revoke` appends the id of a token to a file beside the key; the super-node reads it every second.
"""

import os
from collections import deque
from pathlib import Path

from cubecast.engine.protocol.http_bodies import EndedRight
from cubecast.errors import LocalError
from cubecast.types import ChannelName, HostId

REVOKED_FILE = "revoked-tokens"
"""File in the state folder: the ids of revoked join tokens, one a line."""
ID_CHARS_MAX = 64
"""Longest id of a token, characters; ours have 16."""
REVOKED_BYTES_MAX = 16 << 20
"""Most that is read of the file, bytes: almost a million tokens. Beyond it the file is refused, not shortened."""
ENDED_MAX = 1024
"""Maximum number of ended rights that are kept for hosts that have not refreshed since.

A host refreshes every 2 s. What it misses beyond this number ends when the peer's session does: no new one is accepted."""


def revoke(state: Path, token_id: str) -> None:
    """Appends a token to the revoked ones; it is on disk when this returns.

    Raises:
        LocalError: the file cannot be written.
    """
    path = state / REVOKED_FILE
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="ascii") as file:
            file.write(f"{token_id}\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise LocalError(
            f"cannot write {path}: {error.strerror}; run this as the user that runs the super-node"
        ) from error


class Revocations:
    """Which tokens are revoked, and which rights have ended."""

    def __init__(self, state: Path | None = None) -> None:
        """Reads the file.

        Args:
            state: the super-node's folder; None for a super-node without one, in tests.

        Raises:
            LocalError: the file cannot be read.
        """
        self._path = None if state is None else state / REVOKED_FILE
        self._seen = (-1, -1)
        self._tokens: frozenset[str] = frozenset()
        self._ended: deque[EndedRight] = deque(maxlen=ENDED_MAX)
        self._number = 0
        self.update()

    def update(self) -> bool:
        """Reads the file again if it has changed; returns whether further tokens are revoked.

        Raises:
            LocalError: it cannot be read.
        """
        if self._path is None:
            return False
        try:
            stat = self._path.stat()
            if (stat.st_size, stat.st_mtime_ns) == self._seen:
                return False
            if stat.st_size > REVOKED_BYTES_MAX:
                raise LocalError(
                    f"{self._path} is larger than {REVOKED_BYTES_MAX >> 20} MiB; remove ids that have expired"
                )
            lines = self._path.read_text(encoding="ascii", errors="replace").split()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise LocalError(f"cannot read {self._path}: {error.strerror}") from error
        self._seen = (stat.st_size, stat.st_mtime_ns)
        before, self._tokens = self._tokens, frozenset(line[:ID_CHARS_MAX] for line in lines)
        return bool(self._tokens - before)

    def is_revoked(self, token_id: str) -> bool:
        """Whether a join token is revoked; what was issued for it is worth nothing then."""
        return token_id in self._tokens

    def end(self, host: HostId, key: str, channel: ChannelName, now_s: float) -> None:
        """A host's right to receive a channel has ended; with an empty channel, all its rights."""
        self._number = max(self._number + 1, int(now_s * 1000))  # rises over restarts too
        self._ended.append(EndedRight(self._number, host, key, channel))

    @property
    def number(self) -> int:
        """Of the right that has ended last."""
        return self._number

    def since(self, number: int) -> tuple[EndedRight, ...]:
        """The rights that have ended after the one with this number."""
        return tuple(each for each in self._ended if each.number > number)
