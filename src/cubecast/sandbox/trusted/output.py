"""What a worker process prints: a bounded part of it goes to the log, line by line and without control characters.

The worker writes into a pipe that does not block: what does not fit is lost, so that neither side waits for the other. The
host reads the pipe after each call. The log is Python's logger LOGGER, which prints to standard error by default.
"""

import logging
import os
from contextlib import suppress

LOGGER = logging.getLogger("cubecast.extension")
"""Log of what extensions print."""
OUTPUT_BYTES_MAX = 16 * 1024
"""Maximum output of one worker that is logged, bytes: hundreds of lines, yet a full log costs a worker that floods it more
restarts than supervision allows."""
LINE_CHARACTERS_MAX = 400
"""Maximum length of a logged line, characters; longer ones are split."""
READ_BYTES = 4096
"""Number of bytes that are read at once."""


def printable(text: str) -> str:
    """The text with everything that is not printable escaped, so that it cannot control a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


class WorkerOutput:
    """Reads the output of one worker; `descriptor` is the end of the pipe that the worker inherits."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reader, self.descriptor = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._left = OUTPUT_BYTES_MAX
        self._line = b""

    def log(self) -> None:
        """Logs the lines that the worker has completed."""
        while self._left and (content := self._read()):
            *lines, self._line = (self._line + content).split(b"\n")
            for line in lines:
                self._log_line(line)
            if not self._left:
                self._log_line(self._line)
                LOGGER.warning("extension %s: its further output is not shown", self._name)

    def close(self) -> None:
        """Logs the rest and closes the pipe."""
        self.log()
        if self._left:
            self._log_line(self._line)
        os.close(self._reader)

    def _read(self) -> bytes:
        content = b""
        with suppress(BlockingIOError):
            content = os.read(self._reader, min(READ_BYTES, self._left))
        self._left -= len(content)
        return content

    def _log_line(self, line: bytes) -> None:
        text = printable(line.decode("utf-8", "backslashreplace").rstrip())
        for begin in range(0, len(text), LINE_CHARACTERS_MAX):
            LOGGER.warning("extension %s: %s", self._name, text[begin : begin + LINE_CHARACTERS_MAX])
