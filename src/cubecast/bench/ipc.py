"""The time to exchange four bytes with another protection domain, against the working set of the other side.

This is the slides' experiment: a pipe, a Unix socket, a ring in shared memory whose reader spins briefly before it sleeps,
and a call into the sandbox. Before it answers, the other side touches its working set, one byte in each page, each at
another place in the page, so that address translations have to be loaded again. The time for touching alone is a row of
its own. With pipe and socket both sides run on one CPU, which is their best case; with the ring on two.

An upcall delivers an event and needs no answer except that it was handled. The rows compare a signal to a waiting process,
which confirms over a pipe, with a call of `on_event`.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from cubecast.bench.rows import Row, unjudged_row
from cubecast.sandbox.trusted.confinement import die_with_parent
from cubecast.sandbox.trusted.rings import Ring, RingFiles
from cubecast.sandbox.wasm.bare_module import BareModule
from cubecast.sandbox.wasm.engine import deadlines

if TYPE_CHECKING:
    from cubecast.lab.drawing import Axes

WORKING_SETS = (0, 16, 64, 256, 1024)
"""Sizes of the other side's working set, pages."""
PASSES = 4
"""Number of passes over all ways of exchange, so that a disturbance of the machine does not affect one way only."""
ROUNDS = 5
"""Number of rounds of each way in a pass; the best round of all passes counts."""
TRIPS = 1000
"""Number of exchanges in a round."""
WARM_UP_TRIPS = 20
"""Number of exchanges before the first round of a pass, which are not measured."""
STRIDE = 4160
"""Bytes between two touched bytes, as in the slides: a page of 4096 and a cache line of 64."""
MESSAGE = b"ping"
RING_BYTES = 4096
"""Capacity of the ring in each direction."""

Ping: TypeAlias = Callable[[], object]
"""Makes one exchange."""
Way: TypeAlias = Callable[[int], AbstractContextManager[Ping]]
"""Opens a way of exchange for a working set of a size in bytes."""

ECHO = """(module (memory (export "memory") 70)
  (func (export "echo") (param $size i32) (result i32) (local $at i32) (local $sum i32)
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $at) (local.get $size)))
      (local.set $sum (i32.add (local.get $sum) (i32.load8_u offset=65536 (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 4160)))
      (br $next)))
    (i32.store (i32.const 16) (i32.load (i32.const 8)))
    (local.get $sum))
  (func (export "on_event") (param i32 i64 f64) (result i32) (i32.const 0)))"""


def measure() -> Iterator[Row]:
    """A row for each way and working set, relative to the pipe, and one for each kind of upcall; none has a bar."""
    for size in WORKING_SETS:
        us = trips_us(tuple(WAYS), size)
        for name, value in us.items():
            text = f"{name}, working set {size} pages"
            yield unjudged_row(text, round(value, 3), "us", "pipe", round(value / us["pipe"], 4))
    passes = [(_best_us(_signal()), _best_us(_event())) for _ in range(PASSES)]
    by_signal, into = (min(each) for each in zip(*passes, strict=True))
    for text, value in (("an upcall by signal", by_signal), ("an upcall into the sandbox", into)):
        yield unjudged_row(text, round(value, 3), "us", "signal", round(value / by_signal, 4))


def draw(rows: Sequence[Row], axes: "Axes") -> None:
    """Plots microseconds of an exchange against the working set, a line for each way."""
    for name, marker in zip(WAYS, "os^Dx", strict=True):
        values = [row.value for row in rows if row.name.startswith(f"{name}, ")]
        axes.plot(range(len(values)), values, marker=marker, label=name)
    axes.set_xticks(range(len(WORKING_SETS)), [str(pages) for pages in WORKING_SETS])
    axes.set_xlabel(f"working set of the other side, pages (one byte each, {STRIDE} bytes apart)")
    axes.set_ylabel("4 bytes there and back, us")
    axes.set_ylim(0, 1.35 * max(row.value for row in rows))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", ncols=3, fontsize="small")


def trips_us(names: Sequence[str], pages: int = 0) -> dict[str, float]:
    """Microseconds of an exchange by way, with a working set of `pages`; the ways alternate and the best round counts."""
    passes = [{name: _best_us(WAYS[name](pages * STRIDE)) for name in names} for _ in range(PASSES)]
    return {name: min(each[name] for each in passes) for name in names}


def _best_us(way: AbstractContextManager[Ping]) -> float:
    rounds = []
    with deadlines(), way as ping:
        for _ in range(WARM_UP_TRIPS):
            ping()
        for _ in range(ROUNDS):
            begun = perf_counter()
            for _ in range(TRIPS):
                ping()
            rounds.append((perf_counter() - begun) / TRIPS * 1e6)
    return min(rounds)


def _toucher(size: int) -> Ping:
    lines = np.zeros(max(1, size), np.uint8)[::STRIDE]

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
    module = BareModule(ECHO)
    echo, memory = module.bound("echo", ("i",)), module.memory()

    def ping() -> None:
        memory[8:12] = MESSAGE
        echo(size)
        bytes(memory[16:20])

    yield ping


@contextmanager
def _signal() -> Iterator[Ping]:
    """A signal to a process that waits for it, and one byte back over a pipe."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # inherited, so the child never lacks it
    our_in, their_out = os.pipe()

    def serve() -> None:
        while True:
            signal.sigwait({signal.SIGUSR1})
            os.write(their_out, b"!")

    try:
        with _one_cpu(), _child(serve) as child:

            def ping() -> None:
                os.kill(child, signal.SIGUSR1)
                os.read(our_in, 1)

            yield ping
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for descriptor in (our_in, their_out):
            os.close(descriptor)


@contextmanager
def _event() -> Iterator[Ping]:
    on_event = BareModule(ECHO).bound("on_event", ("i", "q", "d"))
    yield lambda: on_event(1, 0, 0.0)


WAYS: dict[str, Way] = {
    "pipe": _pipe,
    "Unix socket": _unix_socket,
    "ring": _ring,
    "sandbox call": _sandbox,
    "touching alone": _touch_alone,
}


@contextmanager
def _one_cpu() -> Iterator[None]:
    """Restricts this process, and children that it forks meanwhile, to one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _child(serve: Callable[[], None]) -> Iterator[int]:
    """A forked process that runs `serve` until the block ends and kills it. Yields its process ID."""
    parent, child = os.getpid(), os.fork()
    if not child:
        try:
            die_with_parent(parent)
            serve()
        finally:
            os._exit(0)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
