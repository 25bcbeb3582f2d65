"""Serves the API on its own socket, inside a running event loop."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import uvicorn

from cubecast.descriptors import raise_descriptor_limit
from cubecast.engine.directory.config import DIRECTORY_DEFAULTS, DirectoryConfig
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.errors import AddressError, LocalError, TokenError
from cubecast.file_modes import check_secret, write_secret
from cubecast.overlay.cube import Cube
from cubecast.overlay.region import live_region
from cubecast.supernode.access.gate import Gate
from cubecast.supernode.access.names import Names
from cubecast.supernode.access.revocations import Revocations
from cubecast.supernode.api import make_app
from cubecast.supernode.clock import SupernodeClock
from cubecast.supernode.connections import (
    ACCEPTED_MAX,
    CONNECTIONS_MAX,
    HEADER_BYTES_MAX,
    IDLE_S,
    QUEUE_MAX,
    Connections,
    connections_for,
)
from cubecast.supernode.reachability import proved
from cubecast.supernode.service import Service
from cubecast.supernode.sqlite import SqliteStore
from cubecast.supernode.tls.certificate import OWN, Transport, pin_of_tokens, prepare
from cubecast.supernode.tls.handshake import over_tls
from cubecast.tokens.authority import Authority
from cubecast.tokens.jws import pin
from cubecast.tokens.permission import Permission
from cubecast.tokens.quota import OWNER_QUOTA
from cubecast.tracing.writer import TraceWriter

KEY_FILE = "authority.pem"
"""File in the state folder: the private key that signs all tokens. Whoever has it can issue any."""
TOKEN_FILE = "join.token"  # noqa: S105  a file name
"""File in the state folder: a join token that allows everything, for the owner of the super-node."""
STORE_FILE = "directory.sqlite"
"""File in the state folder: the shape of the cube, hosts and channels, for a restart."""
SHUTDOWN_S = 2
"""Time that open requests have to finish when the super-node stops, s."""


@dataclass(frozen=True, slots=True)
class SupernodeConfig:
    """How a super-node runs.

    Attributes:
        state: folder of the key, the store and the join token.
        shape: the cube on first use; None chooses it for `expect` hosts.
        expect: number of hosts.
        seed: of the random seats; None draws a new one at every start.
        directory: as DirectoryEngine takes it.
        trace: file to which the directory's events and effects are appended; None for no trace.
        dial_back: whether hosts are dialled back; if not, every host counts as reachable.
        transport: HTTPS with which certificate, or plain HTTP.
    """

    bind: str
    port: int
    state: Path
    shape: Cube | None
    expect: int
    seed: int | None
    directory: DirectoryConfig = DIRECTORY_DEFAULTS
    dial_back: bool = True
    trace: Path | None = None
    transport: Transport = OWN

    def url(self, port: int) -> str:
        """The URL of the API at this port of the address."""
        scheme = "http" if self.transport.http else "https"
        return f"{scheme}://{f'[{self.bind}]' if ':' in self.bind else self.bind}:{port}"


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the command line."""
        yield


@contextlib.asynccontextmanager
async def serving(config: SupernodeConfig, notify: Callable[[str], None] = lambda _: None) -> AsyncIterator[Service]:
    """Runs a super-node inside this block.

    Args:
        notify: called with one line if fewer connections are possible than CONNECTIONS_MAX.

    Raises:
        AddressError: the port is in use or the address is not one of this machine.
        LocalError: the state folder cannot be used.
    """
    listener = _listen(config.bind, config.port)
    with contextlib.closing(listener):
        store = SqliteStore(config.state / STORE_FILE)
        with contextlib.closing(store):
            authority = Authority.load(config.state / KEY_FILE)
            context = prepare(config.state, config.transport)
            write_join_token(config.state, authority)
            cube = store.first_shape(config.shape, live_region(config.expect))
            rng = np.random.default_rng(config.seed)
            engine = DirectoryEngine(
                cube,
                rng,
                config.directory,
                lambda record: replace(record, signature=authority.sign_bytes(record.signed_content())),
            )
            trace = contextlib.nullcontext() if config.trace is None else contextlib.closing(TraceWriter(config.trace))
            with trace as writer:
                clock = SupernodeClock(store.clock_s())
                gate = Gate(authority, clock, Names(store.names()), Revocations(config.state))
                service = Service(engine, store, gate, clock, proved if config.dial_back else None, writer)
                service.connections = _connections(notify)
                service.port = listener.getsockname()[1]
                async with _http(service, listener, context):
                    yield service


def write_join_token(state: Path, authority: Authority) -> None:
    """Writes a join token that allows everything into the state folder, unless a valid one with today's pin is there.

    Raises:
        LocalError: the file cannot be read or written, or contains a valid token that other users can read.
    """
    path, wanted = state / TOKEN_FILE, pin_of_tokens(state)
    try:
        if path.exists():
            with contextlib.suppress(TokenError):
                token = path.read_text(errors="replace").strip()
                authority.verifier.join(token)
                check_secret(path)
                if pin(token) == wanted:
                    return
        write_secret(path, f"{authority.join_token(Permission(), pin=wanted, quota=OWNER_QUOTA)}\n".encode())
    except OSError as error:
        raise LocalError(f"cannot use join token {path}: {error.strerror}") from error


def _connections(notify: Callable[[str], None]) -> Connections:
    refusals: list[str] = []
    descriptors = raise_descriptor_limit(refusals.append)
    connections = Connections(connections_for(descriptors))
    if connections.connections_max < CONNECTIONS_MAX:
        reason = refusals[0] if refusals else f"{descriptors} files may be open; raise the hard limit with `ulimit -n`"
        notify(f"at most {connections.connections_max} connections, not {CONNECTIONS_MAX}: {reason}")
    return connections


@contextlib.asynccontextmanager
async def _http(service: Service, listener: socket.socket, context: ssl.SSLContext | None) -> AsyncIterator[None]:
    plain = service.connections.protocol()
    protocol = plain if context is None else over_tls(plain, context)
    config = uvicorn.Config(
        make_app(service),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http=cast(type[asyncio.Protocol], protocol),  # uvicorn calls it, as it would call the class
        backlog=ACCEPTED_MAX,
        h11_max_incomplete_event_size=HEADER_BYTES_MAX,
        timeout_keep_alive=int(IDLE_S),
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    logging.getLogger("uvicorn").disabled = True
    logging.getLogger(
        "uvicorn.error"
    ).disabled = True  # malformed requests are answered; tracebacks would fill the terminal
    server = _Server(config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(service.expire_leases())
        tasks.create_task(service.dial_backs.run(service.stopping))
        deadlines = tasks.create_task(service.connections.enforce())
        serve = tasks.create_task(server.serve(sockets=[listener]))
        while not server.started and not serve.done():  # noqa: ASYNC110  uvicorn offers a flag, no event
            await asyncio.sleep(0.005)
        if server.started:
            listener.listen(QUEUE_MAX)  # asyncio sets the queue to the number it accepts in one turn
        try:
            yield
        finally:
            service.stopping.set()  # the push streams end by themselves
            server.should_exit = True
            await serve
            service.connections.cut_all()  # those still in their handshake, which uvicorn does not know
            await asyncio.sleep(0)  # in which the event loop closes their sockets
            deadlines.cancel()


def _listen(bind: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((bind, port))
        listener.listen(QUEUE_MAX)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else "no such port"
        raise AddressError(f"cannot listen on {bind}:{port}: {reason}; choose another with --listen") from error
    listener.setblocking(False)
    return listener
