"""The host's side of the super-node's HTTP API."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar
from urllib.parse import quote

import httpx
import msgspec

from cubecast.engine.protocol.http_bodies import (
    JobRequest,
    JoinAnswer,
    JoinRequest,
    Overview,
    Problem,
    Pushed,
    RefreshAnswer,
    RefreshRequest,
    RelocationAnswer,
    RelocationRequest,
    ResolveAnswer,
    RoutesAnswer,
    RoutesRequest,
)
from cubecast.engine.protocol.job_records import JobStatus
from cubecast.engine.protocol.ranges import decoded
from cubecast.engine.protocol.records import ChannelRecord, Tree
from cubecast.errors import (
    ChannelUnknown,
    DirectoryBusy,
    DirectoryError,
    DirectoryUnreachable,
    MessageError,
    TokenError,
)
from cubecast.host.directory.connection import Connection
from cubecast.host.directory.failures import BUSY, BUSY_WAIT_S_MAX, failure, told_s
from cubecast.host.directory.supernode_time import SupernodeTime
from cubecast.tokens.identity import Identity
from cubecast.tokens.proof import prove
from cubecast.types import ChannelName, HostId

RETRY_PAUSES_S = (0.25, 0.5, 1.0, 2.0)
"""Pauses between the attempts of one call, s; a call is attempted once more than there are pauses."""
TIMEOUT = httpx.Timeout(5.0, connect=2.0)
"""Limits of one request, s."""
STREAM_TIMEOUT = httpx.Timeout(5.0, connect=2.0, read=6.0)
"""Limits of the stream of pushes, s: it counts as broken after 6 s without a line, an empty one included."""

T = TypeVar("T")


class DirectoryClient:
    """Calls to one super-node, each retried after RETRY_PAUSES_S while it does not answer, and as it says while it is busy."""

    def __init__(
        self, url: str, join_token: str, on_retry: Callable[[str], None], identity: Identity | None = None
    ) -> None:
        """A client; nothing is sent yet.

        Args:
            identity: signs the requests; None makes a key that ends with this client.
            on_retry: called with one line for the user before each retry.

        Raises:
            UsageError: the URL is not valid, or is for plain HTTP, and the token names a certificate.
        """
        self._connection = Connection(url, join_token, TIMEOUT)
        self.url = self._connection.url
        self.identity = identity or Identity()
        self._join_token = join_token
        self._on_retry = on_retry
        self._nonce = ""
        self.clock = SupernodeTime()

    async def close(self) -> None:
        """Closes the connections."""
        await self._connection.close()

    async def join(self, request: JoinRequest) -> JoinAnswer:
        """Requests a seat for this host.

        Raises:
            DirectoryError: refused, or the super-node does not answer.
            TokenError: the join token is not accepted.
        """
        answer = await self._call("POST", "/v1/hosts", JoinAnswer, body=request, proves=self._join_token)
        self.identity.credential = answer.credential
        self.clock.heard(answer.now_s)
        return answer

    async def refresh(self, host: HostId, request: RefreshRequest) -> RefreshAnswer:
        """Renews the lease and delivers reports. Not retried: the next refresh follows soon.

        Raises:
            DirectoryError: refused, or the super-node does not answer.
        """
        answer = await self._call("POST", f"/v1/hosts/{host}/refresh", RefreshAnswer, body=request, tries=1)
        self.identity.credential = answer.credential
        self.clock.heard(answer.now_s)
        return answer

    async def leave(self, host: HostId) -> None:
        """Gives the seat back. Not retried: the lease expires without it.

        Raises:
            DirectoryError: refused, or the super-node does not answer.
        """
        await self._call("DELETE", f"/v1/hosts/{host}", None, tries=1)

    async def announce(self, channel: ChannelName, tree: Tree, publication: int = 0) -> ChannelRecord:
        """Announces a channel with this host as its publisher, and returns its record.

        Args:
            publication: the number that the publication was given before; 0 for a new one.

        Raises:
            DirectoryError: refused, or the super-node does not answer.
            TokenError: not allowed.
        """
        path = f"/v1/channels/{quote(channel, safe='')}?tree={tree}&publication={publication}"
        return await self._call("PUT", path, ChannelRecord)

    async def withdraw(self, channel: ChannelName) -> None:
        """Removes a channel from the list. Not retried.

        Raises:
            DirectoryError: refused, or the super-node does not answer.
        """
        await self._call("DELETE", f"/v1/channels/{quote(channel, safe='')}", None, tries=1)

    async def resolve(self, channel: ChannelName) -> ResolveAnswer:
        """Returns the record of a channel, and proposed parents.

        Raises:
            ChannelUnknown: no host announces it.
            DirectoryError: refused, or the super-node does not answer.
            TokenError: not allowed.
        """
        return await self._call("GET", f"/v1/channels/{quote(channel, safe='')}", ResolveAnswer, channel=channel)

    async def want_job(self, request: JobRequest) -> JobStatus:
        """Requests a derived channel; the job lasts as long as the request is repeated.

        Raises:
            DirectoryError: refused, or the super-node does not answer.
            TokenError: the join token is not accepted, or does not allow it.
        """
        path = f"/v1/jobs/{quote(request.job.channel, safe='')}"
        return await self._call("PUT", path, JobStatus, body=request, token=self._join_token)

    async def end_job(self, channel: ChannelName, owner: str) -> None:
        """Ends a job. Not retried: a job ends by itself when its request is not repeated.

        Raises:
            DirectoryError: refused, or the super-node does not answer.
            TokenError: the join token is not accepted.
        """
        path = f"/v1/jobs/{quote(channel, safe='')}?owner={quote(owner, safe='')}"
        await self._call("DELETE", path, None, token=self._join_token, tries=1)

    async def upload_module(self, digest: str, module: bytes) -> None:
        """Uploads the WebAssembly module that jobs name by its SHA-256 digest.

        Raises:
            DirectoryError: refused, or the super-node does not answer.
            TokenError: the join token is not accepted.
        """
        await self._call("PUT", f"/v1/extensions/{digest}", None, body=module, token=self._join_token)

    async def fetch_module(self, digest: str) -> bytes:
        """Downloads the module with a SHA-256 digest, and verifies the digest.

        Raises:
            DirectoryError: it is unknown, has another digest, or the super-node does not answer.
            TokenError: the credential is not accepted.
        """
        response = await self._send("GET", f"/v1/extensions/{digest}", b"", "", "", len(RETRY_PAUSES_S) + 1)
        self._check(response, response.content, None)
        if hashlib.sha256(response.content).hexdigest() != digest:
            raise DirectoryError(f"{self.url} sent a different module from the one requested")
        return response.content

    async def relocate(self, host: HostId, request: RelocationRequest) -> RelocationAnswer:
        """Requests a seat nearer to a channel's publisher. Not retried.

        Raises:
            DirectoryError: refused, or the super-node does not answer.
            TokenError: not allowed.
        """
        return await self._call("POST", f"/v1/hosts/{host}/relocation", RelocationAnswer, body=request, tries=1)

    async def find_routes(self, host: HostId, request: RoutesRequest) -> RoutesAnswer:
        """Requests ways to a channel over hosts that need not carry it yet. Not retried.

        Raises:
            DirectoryError: refused, or the super-node does not answer.
            TokenError: not allowed.
        """
        return await self._call("POST", f"/v1/hosts/{host}/routes", RoutesAnswer, body=request, tries=1)

    async def overview(self) -> Overview:
        """Returns all hosts, channels and subscriptions that the super-node knows.

        Raises:
            DirectoryError: refused, or the super-node does not answer.
            TokenError: the join token is not accepted.
        """
        return await self._call("GET", "/v1/overview", Overview, token=self._join_token)

    async def pushes(self, host: HostId) -> AsyncGenerator[Pushed]:
        """Yields what the super-node pushes to the host, its placement first, until the stream breaks.

        Raises:
            DirectoryError: refused, or the super-node does not answer.
            TokenError: the credential is not accepted.
        """
        path = f"/v1/hosts/{host}/pushes"
        try:
            response = await self._sent("GET", path, b"", "", stream=True)
            try:
                if response.status_code != httpx.codes.OK:
                    self._check(response, await response.aread(), None)
                async for line in response.aiter_lines():
                    if line:
                        yield decoded(line, Pushed)
            finally:
                await response.aclose()
        except (httpx.HTTPError, MessageError) as error:
            raise DirectoryUnreachable(self._connection.describe(error)) from error

    async def _call(
        self,
        method: str,
        path: str,
        answer: type[T] | None,
        body: object = None,
        token: str = "",
        proves: str = "",
        channel: ChannelName | None = None,
        tries: int | None = None,
    ) -> T:
        content = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        response = await self._send(method, path, content, token, proves, tries or len(RETRY_PAUSES_S) + 1)
        self._check(response, response.content, channel)
        return self._decode(response, answer)

    async def _send(
        self, method: str, path: str, content: bytes, token: str, proves: str, tries: int
    ) -> httpx.Response:
        """Sends a request until it is answered; while the super-node is busy, after the time that it says.

        Args:
            tries: with 1 nothing is waited for.
            token: the join token of a person, which is shown without a proof; empty for a request of the host.
            proves: the token that is shown with a proof; empty for the credential.
        """
        attempt, waited_s = 0, 0.0
        while True:
            try:
                response = await self._sent(method, path, content, proves, token)
                wait_s = told_s(response)
                if response.status_code not in BUSY or tries == 1 or waited_s + wait_s > BUSY_WAIT_S_MAX:
                    return response
                if not waited_s:
                    self._on_retry(
                        f"super-node: {self._problem(response, response.content).detail}; tries again in {wait_s:g} s"
                    )
                waited_s += wait_s
                await asyncio.sleep(wait_s)
            except httpx.HTTPError as error:
                if attempt + 1 == tries:
                    raise DirectoryUnreachable(self._connection.describe(error)) from error
                pause_s = RETRY_PAUSES_S[attempt]
                self._on_retry(
                    f"super-node {self.url} does not answer ({failure(error)}); "
                    f"try {attempt + 2} of {tries} in {pause_s:g} s"
                )
                attempt += 1
                await asyncio.sleep(pause_s)

    async def _sent(
        self,
        method: str,
        path: str,
        content: bytes,
        proves: str,
        token: str = "",
        *,
        stream: bool = False,
    ) -> httpx.Response:
        """Sends a request; once more, if the super-node wants a proof with a newer nonce."""
        for last in (False, True):
            nonce = self._nonce
            limits = STREAM_TIMEOUT if stream else TIMEOUT
            request = self._request(method, path, content, proves, limits, token)
            response = await self._connection.send(request, stream=stream)
            self._nonce = response.headers.get("DPoP-Nonce", self._nonce)
            if last or self._nonce == nonce or response.status_code != httpx.codes.UNAUTHORIZED:
                break
            await response.aclose()
        return response

    def _decode(self, response: httpx.Response, answer: type[T] | None) -> T:
        try:
            return msgspec.json.decode(response.content or b"null", type=answer)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise DirectoryError(f"{self.url} is not a cubecast super-node: {error}") from error

    def _check(self, response: httpx.Response, content: bytes, channel: ChannelName | None) -> None:
        if response.is_success:
            return
        problem = self._problem(response, content)
        if response.status_code in BUSY:
            raise DirectoryBusy(f"super-node: {problem.detail}; try again later", told_s(response))
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise TokenError(f"super-node {self.url} refuses the token: {problem.detail}")
        if response.status_code == httpx.codes.NOT_FOUND and channel is not None:
            raise ChannelUnknown(channel, problem.known)
        raise DirectoryError(f"super-node: {problem.detail}")

    def _problem(self, response: httpx.Response, content: bytes) -> Problem:
        try:
            return msgspec.json.decode(content, type=Problem)
        except (msgspec.DecodeError, UnicodeDecodeError):
            if response.status_code in BUSY:  # by a proxy before it
                return Problem(f"{self.url} answered {response.status_code}")
            raise DirectoryError(f"{self.url} answered {response.status_code}; is it a cubecast super-node?") from None

    def _request(
        self, method: str, path: str, content: bytes, proves: str, timeout: httpx.Timeout, token: str = ""
    ) -> httpx.Request:
        """A request with a person's token, or with a proof that this host holds its key."""
        request = self._connection.http.build_request(method, path, content=content, timeout=timeout)
        request.headers["Content-Type"] = "application/json"
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
            return request
        shown = proves or self.identity.credential
        target = request.url.raw_path.decode("ascii")
        request.headers["Authorization"] = f"DPoP {shown}"
        request.headers["DPoP"] = prove(self.identity, method, target, content, shown, self._nonce)
        return request
