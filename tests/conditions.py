"""Tests wait on conditions, not for a time: `until` in synchronous tests, `eventually` in asynchronous ones."""

import asyncio
import time
from collections.abc import Callable

POLL_S = 0.02
"""Pause between two looks at a condition, s."""


def until(
    condition: Callable[[], bool], timeout_s: float = 10.0, failure: Callable[[], str] = lambda: "it never came true"
) -> None:
    """Waits until the condition holds; raises AssertionError with the text of `failure` after the timeout."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, failure()
        time.sleep(POLL_S)


async def eventually(
    condition: Callable[[], bool], timeout_s: float = 10.0, failure: Callable[[], str] = lambda: "it never came true"
) -> None:
    """The same in a coroutine, while other tasks run."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, failure()
        await asyncio.sleep(POLL_S)
