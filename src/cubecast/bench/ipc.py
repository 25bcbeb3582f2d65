"""What it costs to exchange four bytes with another protection domain, against the working set of the other side.

The slides' experiment: a pipe, a Unix socket, a ring in shared memory that is spun on for a moment, and a call into the
sandbox. The other side touches its working set, one byte a cache line, before it answers; what touching costs without any
exchange stands beside it. Pipe and socket have both sides on one CPU, which is their best case; the ring has two.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter
from typing import TypeAlias

import numpy as np

from cubecast.bench.rows import Row
from cubecast.sandbox.kernels import Kernel
from cubecast.sandbox.machine import deadlines
from cubecast.sandbox.rings import Ring, RingFiles

WORKING_SETS = (0, 64 * 1024, 1024 * 1024)
ROUNDS, TRIPS, WARM = 5, 1000, 20
LINE = 64
MESSAGE = b"ping"
RING_BYTES = 4096

Ping: TypeAlias = Callable[[], None]
Way: TypeAlias = Callable[[int], AbstractContextManager[Ping]]

ECHO = """(module (memory (export "memory") 40)
  (func (export "echo") (param $size i32) (result i32) (local $at i32) (local $sum i32)
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $at) (local.get $size)))
      (local.set $sum (i32.add (local.get $sum) (i32.load8_u offset=65536 (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 64)))
      (br $next)))
    (i32.store (i32.const 16) (i32.load (i32.const 8)))
    (local.get $sum)))"""


def measure() -> Iterator[Row]:
    """A row for each way and working set, all relative to the pipe."""
    for size in WORKING_SETS:
        us = {name: trip_us(name, size) for name in WAYS}
        for name, value in us.items():
            text = f"{name}, working set {size // 1024} KiB"
            yield Row(text, round(value, 3), "us", "pipe", round(value / us["pipe"], 4), 0, holds=True)


def trip_us(name: str, size: int = 0) -> float:
    """Four bytes there and back, microseconds; best of several rounds."""
    rounds = []
    with deadlines(), WAYS[name](size) as ping:
        for _ in range(WARM):
            ping()
        for _ in range(ROUNDS):
            begun = perf_counter()
            for _ in range(TRIPS):
                ping()
            rounds.append((perf_counter() - begun) / TRIPS * 1e6)
    return min(rounds)


def _toucher(size: int) -> Ping:
    lines = np.zeros(max(1, size), np.uint8)[::LINE]

    def touch() -> None:
        if size:
            lines.sum()

    return touch


@contextmanager
def _touch_alone(size: int) -> Iterator[Ping]:
    yield _toucher(size)


@contextmanager
def _pipe(size: int) -> Iterator[Ping]:
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    touch = _toucher(size)

    def serve() -> None:
        while message := os.read(their_in, len(MESSAGE)):
            touch()
            os.write(their_out, message)

    def ping() -> None:
        os.write(our_out, MESSAGE)
        os.read(our_in, len(MESSAGE))

    with _one_cpu(), _child(serve):
        yield ping
    for descriptor in (their_in, our_out, our_in, their_out):
        os.close(descriptor)


@contextmanager
def _unix_socket(size: int) -> Iterator[Ping]:
    ours, theirs = socket.socketpair()
    touch = _toucher(size)

    def serve() -> None:
        while message := theirs.recv(len(MESSAGE)):
            touch()
            theirs.send(message)

    def ping() -> None:
        ours.send(MESSAGE)
        ours.recv(len(MESSAGE))

    with ours, theirs, _one_cpu(), _child(serve):
        yield ping


@contextmanager
def _ring(size: int) -> Iterator[Ping]:
    files = RingFiles.make(RING_BYTES), RingFiles.make(RING_BYTES)
    there, back = (Ring(each) for each in files)
    touch = _toucher(size)

    def serve() -> None:
        while (message := there.pop(None)) is not None:
            touch()
            back.push(message)

    def ping() -> None:
        there.push(MESSAGE)
        back.pop(None)

    with _child(serve):
        yield ping
    for each in (there, back, *files):
        each.close()


@contextmanager
def _sandbox(size: int) -> Iterator[Ping]:
    kernel = Kernel(ECHO)
    echo, memory = kernel.bound("echo", ("i",)), kernel.memory()

    def ping() -> None:
        memory[8:12] = MESSAGE
        echo(size)
        bytes(memory[16:20])

    yield ping


WAYS: dict[str, Way] = {
    "pipe": _pipe,
    "Unix socket": _unix_socket,
    "ring": _ring,
    "sandbox call": _sandbox,
    "touching alone": _touch_alone,
}


@contextmanager
def _one_cpu() -> Iterator[None]:
    """This process, and children it forks meanwhile, on one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _child(serve: Callable[[], None]) -> Iterator[None]:
    """A forked process that serves until it is killed."""
    child = os.fork()
    if not child:
        try:
            serve()
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
