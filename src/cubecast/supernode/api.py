"""The super-node's HTTP API. Its OpenAPI page is at /docs.

People send a join token as `Authorization: Bearer TOKEN`. Hosts send their credential, or to join the join token, as
`Authorization: DPoP TOKEN`, and beside it a proof that they hold their key (cubecast.tokens.proof) as `DPoP: PROOF`, made
with the nonce of the latest answer's header `DPoP-Nonce`, as in RFC 9449.
"""

from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from cubecast import __version__
from cubecast.engine.protocol.http_bodies import (
    JobRequest,
    JoinAnswer,
    JoinRequest,
    Overview,
    Problem,
    RefreshAnswer,
    RefreshRequest,
    RelocationAnswer,
    RelocationRequest,
    ResolveAnswer,
    RoutesAnswer,
    RoutesRequest,
)
from cubecast.engine.protocol.job_records import SENT_MODULE_BYTES_MAX, JobStatus
from cubecast.engine.protocol.records import Tree
from cubecast.errors import ChannelUnknown, CubecastError, DirectoryError, TokenError, UsageError
from cubecast.supernode.access.gate import SignedRequest
from cubecast.supernode.metrics import directory_metrics, subscription_metrics
from cubecast.supernode.service import Service
from cubecast.tokens.authority import Bearer
from cubecast.types import ChannelName, HostId

NONCE_HEADER = "DPoP-Nonce"
"""Header of every answer to a host: the nonce for its next proofs."""
BODY_BYTES_MAX = SENT_MODULE_BYTES_MAX
"""Maximum size of a request body; the largest is an extension's module."""


def _token(authorization: Annotated[str, Header()] = "") -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() not in ("bearer", "dpop") or not token:
        raise TokenError("no token was sent; give one with --token or CUBECAST_TOKEN")
    return token


Token = Annotated[str, Depends(_token)]


async def _signed(
    request: Request, response: Response, token: Token, dpop: Annotated[str, Header()] = ""
) -> SignedRequest:
    service: Service = request.app.state.service
    response.headers[NONCE_HEADER] = service.nonce()
    path, query = request.scope["raw_path"].decode("ascii", "replace"), request.url.query
    return SignedRequest(token, dpop, request.method, f"{path}?{query}" if query else path, await request.body())


Signed = Annotated[SignedRequest, Depends(_signed)]


def make_app(service: Service) -> FastAPI:
    """The application that serves one service."""
    app = FastAPI(
        title="cubecast super-node", version=__version__, description=__doc__ or "", max_body_size=BODY_BYTES_MAX
    )
    app.state.service = service
    _handle_errors(app, service)
    _host_routes(app, service)
    _channel_routes(app, service)
    _job_routes(app, service)
    _public_routes(app, service)
    return app


def _handle_errors(app: FastAPI, service: Service) -> None:
    @app.exception_handler(TokenError)
    async def unauthorised(_: Request, error: TokenError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 401, {NONCE_HEADER: service.nonce()})

    @app.exception_handler(ChannelUnknown)
    async def unknown(_: Request, error: ChannelUnknown) -> JSONResponse:
        return JSONResponse({"detail": str(error), "known": error.known}, 404)

    @app.exception_handler(UsageError)
    @app.exception_handler(DirectoryError)
    async def refused(_: Request, error: CubecastError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 409)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"detail": f"{where}: {first['msg']}"}, 422)


def _host_routes(app: FastAPI, service: Service) -> None:
    problems: dict[int | str, dict[str, object]] = {401: {"model": Problem}, 409: {"model": Problem}}

    def bearer(signed: Signed, host: HostId) -> Bearer:
        known = service.host(signed)
        if known.host != host:
            raise TokenError(f"this credential is host {known.host}'s, not {host}'s")
        return known

    @app.post("/v1/hosts", responses=problems, tags=["hosts"])
    async def join(signed: Signed, request: JoinRequest) -> JoinAnswer:
        """Take a seat in the cube; needs a join token, and a proof by the key that joins."""
        return await service.join(signed, request)

    @app.post("/v1/hosts/{host}/refresh", responses=problems, tags=["hosts"])
    async def refresh(who: Annotated[Bearer, Depends(bearer)], request: RefreshRequest) -> RefreshAnswer:
        """Renew the lease; report subscriptions, silent neighbours, delays and jobs."""
        return service.refresh(who, request)

    @app.get("/v1/hosts/{host}/pushes", responses=problems, tags=["hosts"])
    async def pushes(who: Annotated[Bearer, Depends(bearer)]) -> StreamingResponse:
        """A stream of changes for the host: one `Pushed` object a line, empty lines keep it alive."""

        async def lines() -> AsyncIterator[bytes]:
            async for pushed in service.pushes(who):
                yield (b"" if pushed is None else msgspec.json.encode(pushed)) + b"\n"

        service.engine.placement(who.host)
        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @app.post("/v1/hosts/{host}/relocation", responses=problems, tags=["hosts"])
    async def relocate(who: Annotated[Bearer, Depends(bearer)], request: RelocationRequest) -> RelocationAnswer:
        """Ask for a seat nearer to a channel's publisher, when no path over the cube keeps the bound."""
        return service.relocate(who, request)

    @app.post("/v1/hosts/{host}/routes", responses=problems, tags=["hosts"])
    async def find_routes(who: Annotated[Bearer, Depends(bearer)], request: RoutesRequest) -> RoutesAnswer:
        """Ask for ways to a channel over hosts that need not carry it yet, when no host that does keeps the bound."""
        return service.find_routes(who, request)

    @app.delete("/v1/hosts/{host}", status_code=204, responses=problems, tags=["hosts"])
    async def leave(who: Annotated[Bearer, Depends(bearer)]) -> None:
        """Leave the overlay."""
        service.leave(who)


def _channel_routes(app: FastAPI, service: Service) -> None:
    problems: dict[int | str, dict[str, object]] = {401: {"model": Problem}, 409: {"model": Problem}}

    def bearer(signed: Signed) -> Bearer:
        return service.host(signed)

    Who = Annotated[Bearer, Depends(bearer)]  # noqa: N806  a type, as at module level

    @app.put("/v1/channels/{channel}", status_code=204, responses=problems, tags=["channels"])
    async def announce(who: Who, channel: ChannelName, tree: Tree = Tree.HYBRID) -> None:
        """Publish a channel from this host."""
        service.announce(who, channel, tree)

    @app.delete("/v1/channels/{channel}", status_code=204, responses=problems, tags=["channels"])
    async def withdraw(who: Who, channel: ChannelName) -> None:
        """End a channel."""
        service.withdraw(who, channel)

    @app.get("/v1/channels/{channel}", responses={**problems, 404: {"model": Problem}}, tags=["channels"])
    async def resolve(who: Who, channel: ChannelName) -> ResolveAnswer:
        """The publisher of a channel, and hosts that may be parents."""
        return service.resolve(who, channel)


def _job_routes(app: FastAPI, service: Service) -> None:
    problems: dict[int | str, dict[str, object]] = {401: {"model": Problem}, 409: {"model": Problem}}

    @app.put("/v1/jobs/{channel}", responses=problems, tags=["jobs"])
    async def request_job(token: Token, channel: ChannelName, request: JobRequest) -> JobStatus:
        """Request a channel derived from another by an extension, for as long as this is repeated; needs a join token."""
        return service.request_job(service.person(token), channel, request)

    @app.delete("/v1/jobs/{channel}", status_code=204, responses=problems, tags=["jobs"])
    async def end_job(token: Token, channel: ChannelName, owner: str) -> None:
        """End a job."""
        service.person(token)
        service.end_job(channel, owner)

    @app.put("/v1/extensions/{digest}", status_code=204, responses=problems, tags=["jobs"])
    async def upload_module(token: Token, digest: str, request: Request) -> None:
        """Upload the module of an extension that a job needs; the body is the module, the digest its SHA-256."""
        service.person(token)
        service.add_module(digest, await request.body())

    @app.get("/v1/extensions/{digest}", responses=problems, tags=["jobs"])
    async def download_module(signed: Signed, digest: str) -> Response:
        """The module of an extension, for a host that has a job for it."""
        return Response(service.module(service.host(signed), digest), media_type="application/wasm")


def _public_routes(app: FastAPI, service: Service) -> None:
    @app.get("/v1/overview", responses={401: {"model": Problem}}, tags=["directory"])
    async def overview(token: Token) -> Overview:
        """Hosts, channels and subscriptions; needs a join token."""
        return service.overview(service.person(token))

    @app.get("/health", tags=["directory"])
    async def health() -> dict[str, str]:
        """The state and the version of the super-node."""
        return {"status": "ok", "version": __version__}

    @app.get("/metrics", response_class=PlainTextResponse, tags=["directory"])
    async def metrics(authorization: Annotated[str, Header()] = "") -> PlainTextResponse:
        """Prometheus metrics; with a join token also each subscription to the channels it allows."""
        text = directory_metrics(service)
        if authorization:
            text += subscription_metrics(service.overview(service.person(_token(authorization))).subscriptions)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
