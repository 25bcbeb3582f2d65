"""The super-node's HTTP API, described at /openapi.json; pages that show it would load scripts of others.

People send a join token as `Authorization: Bearer TOKEN`. Hosts send their credential, or to join the join token, as
`Authorization: DPoP TOKEN`, and beside it a proof that they hold their key (cubecast.tokens.proof) as `DPoP: PROOF`, made
with the nonce of the latest answer's header `DPoP-Nonce`, as in RFC 9449. A body is read only after the token was verified.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from math import ceil
from typing import Annotated, TypeVar

import msgspec
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from cubecast import __version__
from cubecast.engine.protocol.http_bodies import (
    JOB_BYTES_MAX,
    JOIN_BYTES_MAX,
    REFRESH_BYTES_MAX,
    ROUTES_BYTES_MAX,
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
from cubecast.engine.protocol.ranges import decoded
from cubecast.engine.protocol.records import ChannelRecord, Tree
from cubecast.errors import (
    ChannelUnknown,
    CubecastError,
    DirectoryBusy,
    DirectoryError,
    MessageError,
    TokenError,
    UsageError,
)
from cubecast.supernode.access.gate import SignedRequest
from cubecast.supernode.connections import Connection
from cubecast.supernode.metrics import directory_metrics, subscription_metrics
from cubecast.supernode.service import Service
from cubecast.texts import one_line
from cubecast.tokens.authority import Bearer, JoinRights
from cubecast.types import ChannelName, HostId

NONCE_HEADER = "DPoP-Nonce"
"""Header of every answer to a host: the nonce for its next proofs."""
OTHER_BODY_BYTES_MAX = 0
"""Maximum size of the body of a request that needs none, bytes."""
PROBLEMS: dict[int | str, dict[str, object]] = {status: {"model": Problem} for status in (401, 409, 429, 503)}
"""How a request may be refused: its token, by the directory or a quota, by a rate, and while too many join."""
T = TypeVar("T")


def _token(authorization: Annotated[str, Header()] = "") -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() not in ("bearer", "dpop") or not token:
        raise TokenError("no token was sent; give one with --token or CUBECAST_TOKEN")
    return token


Token = Annotated[str, Depends(_token)]


Proof = Annotated[str, Header(alias="DPoP")]


class _Callers:
    """Verifies the tokens of requests, counts these against their rates, and has the connections kept that they came over."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def person(self, request: Request, token: Token) -> JoinRights:
        rights = self._service.person(token)
        self._service.usage.count_request(rights.token_id, rights.quota)
        _keep(request)
        return rights

    async def joining(self, request: Request, response: Response, token: Token, proof: Proof = "") -> SignedRequest:
        """A request with a join token, and a proof that it is for one of its own requests."""
        self._service.person(token)
        return await self._signed(request, response, token, proof)

    async def host(self, request: Request, response: Response, token: Token, proof: Proof = "") -> Bearer:
        known = await self._known(request, response, token, proof)
        self._service.usage.count_request(known.token_id, known.quota)
        return known

    async def own(self, request: Request, response: Response, token: Token, host: HostId, proof: Proof = "") -> Bearer:
        """The host that the path names."""
        return _checked(await self.host(request, response, token, proof), host)

    async def refreshing(
        self, request: Request, response: Response, token: Token, host: HostId, proof: Proof = ""
    ) -> Bearer:
        """The host that the path names: its refreshes have a rate of their own, so that other requests never cost it its lease."""
        known = _checked(await self._known(request, response, token, proof), host)
        self._service.usage.count_refresh(known.host)
        return known

    async def _known(self, request: Request, response: Response, token: str, proof: str) -> Bearer:
        self._service.check_credential(token)
        known = self._service.host(await self._signed(request, response, token, proof))
        _keep(request)
        return known

    async def _signed(self, request: Request, response: Response, token: str, proof: str) -> SignedRequest:
        response.headers[NONCE_HEADER] = self._service.nonce()
        path, query = request.scope["raw_path"].decode("ascii", "replace"), request.url.query
        target = f"{path}?{query}" if query else path
        return SignedRequest(token, proof, request.method, target, await request.body())


def _checked(known: Bearer, host: HostId) -> Bearer:
    if known.host != host:
        raise TokenError(f"this credential is host {known.host}'s, not {host}'s")
    return known


def _keep(request: Request) -> None:
    connection: Connection = request.state.connection
    connection.authenticated()


def _origin(request: Request) -> str:
    """The IP address that a request came from; empty if it is unknown."""
    return "" if request.client is None else request.client.host


def _body(kind: type[T]) -> Callable[[Request], Awaitable[T]]:
    """Reads a body as a dependency, in the order of the parameters: FastAPI reads its own before it verifies the token."""

    async def read(request: Request) -> T:
        try:
            return decoded(await request.body(), kind)
        except MessageError as error:
            raise HTTPException(422, one_line(f"body: {error}")) from error

    return read


def _described(kind: type) -> dict[str, object]:
    """The OpenAPI description of a body that `_body` reads; its references begin at its own `$id`."""
    schema = {"$id": kind.__name__, **msgspec.json.schema(kind)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def make_app(service: Service) -> FastAPI:
    """The application that serves one service."""
    app = FastAPI(
        title="cubecast super-node",
        version=__version__,
        description=__doc__ or "",
        max_body_size=OTHER_BODY_BYTES_MAX,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    callers = _Callers(service)
    _handle_errors(app, service)
    _host_routes(app, service, callers)
    _search_routes(app, service, callers)
    _channel_routes(app, service, callers)
    _job_routes(app, service, callers)
    _public_routes(app, service, callers)
    return app


def _handle_errors(app: FastAPI, service: Service) -> None:
    @app.exception_handler(TokenError)
    async def unauthorised(_: Request, error: TokenError) -> JSONResponse:
        return JSONResponse({"detail": one_line(str(error))}, 401, {NONCE_HEADER: service.nonce()})

    @app.exception_handler(ChannelUnknown)
    async def unknown(_: Request, error: ChannelUnknown) -> JSONResponse:
        return JSONResponse({"detail": one_line(str(error)), "known": error.known}, 404)

    @app.exception_handler(DirectoryBusy)
    async def busy(_: Request, error: DirectoryBusy) -> JSONResponse:
        after = {"Retry-After": str(ceil(error.wait_s)), NONCE_HEADER: service.nonce()}
        return JSONResponse({"detail": one_line(str(error))}, 503 if error.overloaded else 429, after)

    @app.exception_handler(UsageError)
    @app.exception_handler(DirectoryError)
    async def refused(_: Request, error: CubecastError) -> JSONResponse:
        return JSONResponse({"detail": one_line(str(error))}, 409)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"detail": one_line(f"{where}: {first['msg']}")}, 422)


def _host_routes(app: FastAPI, service: Service, callers: _Callers) -> None:
    Joining = Annotated[SignedRequest, Depends(callers.joining)]  # noqa: N806  a type, as at module level

    Own = Annotated[Bearer, Depends(callers.own)]  # noqa: N806
    Refreshing = Annotated[Bearer, Depends(callers.refreshing)]  # noqa: N806

    @app.post(
        "/v1/hosts",
        responses=PROBLEMS,
        tags=["hosts"],
        max_body_size=JOIN_BYTES_MAX,
        openapi_extra=_described(JoinRequest),
    )
    async def join(
        connection: Request, signed: Joining, request: Annotated[JoinRequest, Depends(_body(JoinRequest))]
    ) -> JoinAnswer:
        """Take a seat in the cube; needs a join token, and a proof by the key that joins."""
        answer = await service.join(signed, request, _origin(connection))
        _keep(connection)
        return answer

    @app.post(
        "/v1/hosts/{host}/refresh",
        responses=PROBLEMS,
        tags=["hosts"],
        max_body_size=REFRESH_BYTES_MAX,
        openapi_extra=_described(RefreshRequest),
    )
    async def refresh(
        connection: Request, who: Refreshing, request: Annotated[RefreshRequest, Depends(_body(RefreshRequest))]
    ) -> RefreshAnswer:
        """Renew the lease; report subscriptions, silent neighbours, delays and jobs."""
        return service.refresh(who, request, _origin(connection))

    @app.get("/v1/hosts/{host}/pushes", responses=PROBLEMS, tags=["hosts"])  # noqa: FAST003  Own reads it
    async def pushes(who: Own) -> StreamingResponse:
        """A stream of changes for the host: one `Pushed` object a line, empty lines keep it alive."""

        async def lines() -> AsyncIterator[bytes]:
            async for pushed in service.pushes(who):
                yield (b"" if pushed is None else msgspec.json.encode(pushed)) + b"\n"

        service.engine.placement(who.host)
        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @app.delete("/v1/hosts/{host}", status_code=204, responses=PROBLEMS, tags=["hosts"])  # noqa: FAST003  Own reads it
    async def leave(who: Own) -> None:
        """Leave the overlay."""
        service.leave(who)


def _search_routes(app: FastAPI, service: Service, callers: _Callers) -> None:
    Own = Annotated[Bearer, Depends(callers.own)]  # noqa: N806  a type, as at module level

    @app.post(
        "/v1/hosts/{host}/relocation",
        responses=PROBLEMS,
        tags=["hosts"],
        max_body_size=JOIN_BYTES_MAX,
        openapi_extra=_described(RelocationRequest),
    )
    async def relocate(
        who: Own, request: Annotated[RelocationRequest, Depends(_body(RelocationRequest))]
    ) -> RelocationAnswer:
        """Ask for a seat nearer to a channel's publisher, when no path over the cube keeps the bound."""
        return service.relocate(who, request)

    @app.post(
        "/v1/hosts/{host}/routes",
        responses=PROBLEMS,
        tags=["hosts"],
        max_body_size=ROUTES_BYTES_MAX,
        openapi_extra=_described(RoutesRequest),
    )
    async def find_routes(who: Own, request: Annotated[RoutesRequest, Depends(_body(RoutesRequest))]) -> RoutesAnswer:
        """Ask for ways to a channel over hosts that need not carry it yet, when no host that does keeps the bound."""
        return service.find_routes(who, request)


def _channel_routes(app: FastAPI, service: Service, callers: _Callers) -> None:
    Who = Annotated[Bearer, Depends(callers.host)]  # noqa: N806  a type, as at module level

    @app.put("/v1/channels/{channel}", responses=PROBLEMS, tags=["channels"])
    async def announce(who: Who, channel: ChannelName, tree: Tree = Tree.HYBRID, publication: int = 0) -> ChannelRecord:
        """Publish a channel from this host; `publication` is the number it was given before, if it was."""
        return service.announce(who, channel, tree, publication)

    @app.delete("/v1/channels/{channel}", status_code=204, responses=PROBLEMS, tags=["channels"])
    async def withdraw(who: Who, channel: ChannelName) -> None:
        """End a channel."""
        service.withdraw(who, channel)

    @app.get("/v1/channels/{channel}", responses={**PROBLEMS, 404: {"model": Problem}}, tags=["channels"])
    async def resolve(who: Who, channel: ChannelName) -> ResolveAnswer:
        """The publisher of a channel, and hosts that may be parents."""
        return service.resolve(who, channel)


def _job_routes(app: FastAPI, service: Service, callers: _Callers) -> None:
    Person = Annotated[JoinRights, Depends(callers.person)]  # noqa: N806  a type, as at module level
    Who = Annotated[Bearer, Depends(callers.host)]  # noqa: N806

    @app.put(
        "/v1/jobs/{channel}",
        responses=PROBLEMS,
        tags=["jobs"],
        max_body_size=JOB_BYTES_MAX,
        openapi_extra=_described(JobRequest),
    )
    async def request_job(
        who: Person, channel: ChannelName, request: Annotated[JobRequest, Depends(_body(JobRequest))]
    ) -> JobStatus:
        """Request a channel derived from another by an extension, for as long as this is repeated; needs a join token."""
        return service.jobs.request(who, channel, request)

    @app.delete("/v1/jobs/{channel}", status_code=204, responses=PROBLEMS, tags=["jobs"])
    async def end_job(_: Person, channel: ChannelName, owner: str) -> None:
        """End a job."""
        service.jobs.end(channel, owner)

    @app.put(
        "/v1/extensions/{digest}",
        status_code=204,
        responses=PROBLEMS,
        tags=["jobs"],
        max_body_size=SENT_MODULE_BYTES_MAX,
    )
    async def upload_module(who: Person, digest: str, request: Request) -> None:
        """Upload the module of an extension that a job needs; the body is the module, the digest its SHA-256."""
        service.jobs.add_module(who, digest, await request.body())

    @app.get("/v1/extensions/{digest}", responses=PROBLEMS, tags=["jobs"])
    async def download_module(who: Who, digest: str) -> Response:
        """The module of an extension, for a host that has a job for it."""
        return Response(service.jobs.module(who, digest), media_type="application/wasm")


def _public_routes(app: FastAPI, service: Service, callers: _Callers) -> None:
    @app.get("/v1/overview", responses={401: {"model": Problem}}, tags=["directory"])
    async def overview(who: Annotated[JoinRights, Depends(callers.person)]) -> Overview:
        """Hosts, channels and subscriptions; needs a join token."""
        return service.overview(who.permission)

    @app.get("/health", tags=["directory"])
    async def health() -> dict[str, str]:
        """The state and the version of the super-node."""
        return {"status": "ok", "version": __version__}

    @app.get("/metrics", response_class=PlainTextResponse, tags=["directory"])
    async def metrics(request: Request, authorization: Annotated[str, Header()] = "") -> PlainTextResponse:
        """Prometheus metrics; with a join token also each subscription to the channels it allows."""
        text = directory_metrics(service)
        if authorization:
            who = await callers.person(request, _token(authorization))
            text += subscription_metrics(service.overview(who.permission).subscriptions)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
