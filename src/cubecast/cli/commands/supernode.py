"""`cubecast supernode`: runs the directory until stopped."""

from pathlib import Path

from cubecast.cli.arguments import Parser, add_trace_option, one_of, split_address, state_folder, whole_number
from cubecast.cli.command_runner import emit, notify, serve
from cubecast.engine.directory.config import (
    RELOCATION_DEPTH_MAX,
    DirectoryConfig,
    RelocationConfig,
    RelocationForm,
)
from cubecast.errors import UsageError
from cubecast.overlay.cube import parse_cube
from cubecast.supernode.server import TOKEN_FILE, SupernodeConfig, serving
from cubecast.supernode.tls.certificate import Transport


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(prog="cubecast supernode", description="Run the directory of hosts and channels.")
    parser.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:7000", help="TCP address (%(default)s)")
    parser.add_argument("--state", type=Path, default=state_folder(), help="folder of key and store (%(default)s)")
    parser.add_argument("--shape", metavar="K^N", help="shape of the cube, such as 2^4 (chosen for --expect)")
    parser.add_argument(
        "--expect", type=whole_number(1, 65_536), default=64, metavar="HOSTS", help="hosts to expect (%(default)s)"
    )
    parser.add_argument("--seed", type=whole_number(0, 2**31), help="of the random seats")
    parser.add_argument(
        "--relocation",
        type=one_of(RelocationForm),
        metavar="|".join(RelocationForm),
        default=RelocationConfig().form,
        help="the hosts whose seats a subscriber over the cube may take when its bound is not kept (%(default)s)",
    )
    parser.add_argument(
        "--relocation-depth",
        type=whole_number(1, RELOCATION_DEPTH_MAX),
        default=RelocationConfig().depth,
        metavar="D",
        help="hops around the publisher (%(default)s)",
    )
    parser.add_argument(
        "--no-dial-back",
        dest="dial_back",
        action="store_false",
        help="do not test whether hosts can be dialled: assume that all can",
    )
    _add_transport_options(parser)
    parser.add_argument("--json", action="store_true", help="print events as JSON lines")
    add_trace_option(parser)
    args = parser.parse_args(arguments)
    host, port = split_address(args.listen, "--listen")
    shape = None if args.shape is None else parse_cube(args.shape)
    directory = DirectoryConfig(relocation=RelocationConfig(args.relocation, args.relocation_depth))
    config = SupernodeConfig(
        host,
        port,
        args.state,
        shape,
        args.expect,
        args.seed,
        directory,
        args.dial_back,
        args.trace,
        _transport(args.http, args.tls_cert, args.tls_key),
    )
    return serve(_serve(config, args.json))


def _add_transport_options(parser: Parser) -> None:
    parser.add_argument(
        "--http",
        action="store_true",
        help="plain HTTP, for a TLS proxy or a closed network: whoever sees the traffic can read it",
    )
    parser.add_argument(
        "--tls-cert", type=Path, metavar="FILE", help="certificate of a public authority with its chain, PEM (own one)"
    )
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key, PEM")


def _transport(http: bool, certificate: Path | None, key: Path | None) -> Transport:
    if http and (certificate or key):
        raise UsageError("--http serves without TLS; leave out --tls-cert and --tls-key, or --http")
    if certificate is not None and key is not None:
        return Transport(files=(certificate, key))
    if certificate or key:
        raise UsageError("--tls-cert and --tls-key belong together; give both, or none for a certificate of its own")
    return Transport(http)


async def _serve(config: SupernodeConfig, json: bool) -> int:
    async with serving(config, notify) as service:
        url = config.url(service.port)
        token = config.state / TOKEN_FILE
        shape = service.engine.cube
        if json:
            emit("serving", url=url, shape={"radix": shape.radix, "dimensions": shape.dimensions}, token=str(token))
        else:
            notify(f"super-node at {url}, cube {shape}, API at {url}/openapi.json")
            notify(f"hosts join with --supernode {url} --token @{token}")
        await service.broken
    return 0
