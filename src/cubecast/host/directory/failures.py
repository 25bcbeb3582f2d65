"""What a request to the super-node has failed of, in words for the user, and when to try again."""

import socket
import ssl
from collections.abc import Iterator

import httpx

from cubecast.errors import MessageError

BUSY_WAIT_S_MAX = 60.0
"""Longest time that one call waits, s, each time as long as the super-node says, while a rate is exceeded or it is overloaded."""
BUSY_PAUSE_S_MIN = 1.0
"""Shortest such wait, s: also where an answer does not say how long, as that of a proxy."""
BUSY = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
"""Status codes of requests that are served later."""


def told_s(response: httpx.Response) -> float:
    """How long to wait until the same request may be served, s."""
    told = response.headers.get("Retry-After", "")
    seconds = float(told) if told.isascii() and told.isdigit() else 0.0
    return max(BUSY_PAUSE_S_MIN, min(seconds, BUSY_WAIT_S_MAX + BUSY_PAUSE_S_MIN))


def failure(error: Exception) -> str:
    """Why a request had no answer, in a few words."""
    match error:
        case httpx.ConnectError():
            causes = list(causes_of(error))
            if any(isinstance(cause, socket.gaierror) for cause in causes):
                return "its host is unknown"
            if any(isinstance(cause, ssl.SSLEOFError | ConnectionResetError) for cause in causes):
                return "the connection was cut"
            found = [cause for cause in causes if isinstance(cause, ssl.SSLError)]
            return f"TLS failed: {found[0].reason or found[0]}" if found else "connection refused"
        case MessageError():
            return "it is not a cubecast super-node of this version"
        case httpx.TimeoutException():
            return "timed out"
        case httpx.RemoteProtocolError() | httpx.ReadError():
            return "the connection was cut"
        case _:
            return str(error) or type(error).__name__


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it, the latest first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
