"""Runs a command: signals cancel it so that it can clean up, and an error becomes one line."""

import asyncio
import errno
import json
import math
import os
import signal
import stat
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import BinaryIO, TypeVar

import uvloop

from cubecast.cli.main import OUTPUT_CLOSED, discard_output
from cubecast.errors import CubecastError, LocalError, RemoteError, SubscriptionError, UpstreamLost, first_error
from cubecast.texts import printable

T = TypeVar("T")

LINE_MAX = 64 * 1024
"""Maximum length, bytes, of a line that is read from standard input: bounds memory; longer ones are ignored."""

BROKEN = 1
"""Exit status when a stream broke, or a check of the command failed."""
BAD_INPUT = 2
"""Exit status for bad input, as argparse has it."""
INTERNAL = 70
"""Exit status for an error in this program (EX_SOFTWARE of <sysexits.h>)."""
INTERRUPTED = 130
"""Exit status of a command that the user interrupted: as a shell reports a program that SIGINT ended."""


def notify(line: str) -> None:
    """Prints one line for the user on standard error; what a terminal would obey in it is spelled out."""
    with suppress(BrokenPipeError):
        print(f"cubecast: {printable(line)}", file=sys.stderr, flush=True)


def emit(event: str, **fields: object) -> None:
    """Prints one JSON object on a line of standard output; if its reader is gone, the command ends as by SIGTERM."""
    try:
        print(json_text({"event": event, **fields}), flush=True)
    except BrokenPipeError:
        discard_output()
        signal.raise_signal(signal.SIGTERM)


def json_text(value: object) -> str:
    """A value as JSON that every program reads: NaN and infinities, which JSON does not have, become null."""
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: object) -> object:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
        case _:
            return value


async def wait_for_enter() -> None:
    """Waits for a line, or the end, of standard input; returns at once if it cannot be waited on."""
    notify("holding; press Enter to start")
    if sys.stdin is None:
        return
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(sys.stdin.fileno(), ready.set)
    except (OSError, ValueError):  # a file, /dev/null, or closed
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())


async def input_lines() -> AsyncIterator[bytes]:
    """The lines of standard input, until its end: from a pipe, socket or terminal as they come, or from a file."""
    read = await _line_reader()
    while read is not None:
        try:
            line = await read()
        except ValueError:
            notify(f"a line of more than {LINE_MAX} bytes is ignored")
            continue
        if not line:
            return
        if line.strip():
            yield line


async def _line_reader() -> Callable[[], Awaitable[bytes]] | None:
    """What reads one line of standard input, and raises ValueError for one that is too long.

    None if nothing can come, as from /dev/null. The kind of the descriptor decides: uvloop ends the process if it is
    given a file as a pipe.
    """
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # None, or closed
        return None
    if stat.S_ISREG(mode):
        return lambda: asyncio.to_thread(_file_line, sys.stdin.buffer)
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or sys.stdin.isatty()):
        return None
    reader = asyncio.StreamReader(limit=LINE_MAX)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader.readline


def _file_line(file: BinaryIO) -> bytes:
    line = file.readline(LINE_MAX + 1)
    if len(line) <= LINE_MAX:
        return line
    while line and not line.endswith(b"\n"):
        line = file.readline(LINE_MAX)
    raise ValueError("too long")


def run_async(work: Coroutine[object, object, T], interrupted: T) -> T:
    """Runs the work to its end. SIGINT and SIGTERM cancel it, so that it cleans up; the result is then `interrupted`."""

    async def guarded() -> T:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return interrupted

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(guarded())


def serve(work: Coroutine[object, object, int]) -> int:
    """Runs a command that its user ends: its exit status is 0 when a signal ends it."""
    return run_async(work, 0)


def exit_status(command: Callable[[], int]) -> int:
    """Runs a command and returns its exit status; an error is printed as one line, an unknown one as an internal error."""
    try:
        return command()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of standard output is gone
        return OUTPUT_CLOSED
    except BaseExceptionGroup as group:
        return _report(first_error(group))
    except Exception as error:  # noqa: BLE001  the last resort: users never see a traceback
        return _report(error)


def _report(error: BaseException) -> int:
    if os.environ.get("CUBECAST_DEBUG"):
        traceback.print_exception(error)
    if isinstance(error, CubecastError):
        notify(str(error))
        broken = isinstance(error, UpstreamLost) or type(error) in (SubscriptionError, RemoteError)
        return BROKEN if broken and not isinstance(error, LocalError) else BAD_INPUT
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        notify(f"the name is too long: {error.filename}")
        return BAD_INPUT
    notify(f"internal error: {type(error).__name__}: {error}; set CUBECAST_DEBUG=1 for the traceback and report it")
    return INTERNAL
