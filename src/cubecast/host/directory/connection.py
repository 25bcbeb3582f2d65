"""Connections to the super-node: which certificate is trusted, and what a failure means for the user.

A join token with a pin names the only certificate that is trusted: it is fetched first, and compared with the pin. Without a
pin, the certificate authorities of this machine vouch for the super-node, as for any web site.
"""

import asyncio
import hashlib
import ssl
from collections.abc import Mapping
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

import httpx

from cubecast.errors import DirectoryUnreachable, TokenError, UsageError
from cubecast.host.directory.failures import causes_of, failure
from cubecast.tokens.jws import pin

CERTIFICATE_S = 5.0
"""Time to fetch the super-node's certificate, s: as long as a request has."""
SELF_SIGNED = 18
"""OpenSSL's number of the error that a certificate is signed by itself and not trusted (X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT)."""
NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})
"""OpenSSL's names of the errors that it has, by its version, when the other side answers with plain HTTP."""


class WrongTransport(DirectoryUnreachable):
    """No other try can succeed: the URL, the token and the super-node do not fit each other."""


class Connection:
    """Sends requests to one super-node, which must have the certificate that the join token names."""

    def __init__(self, url: str, join_token: str, timeout: httpx.Timeout) -> None:
        """Nothing is sent yet.

        Raises:
            UsageError: the URL is not valid, or is for plain HTTP, and the token names a certificate.
        """
        self.url = supernode_url(url)
        self._pin, self._lacks = "", "your token does not name it: ask for a new one"
        try:
            self._pin = pin(join_token) if join_token else ""
        except TokenError:  # a super-node that is known without it says what is wrong with it
            self._lacks = "what was given as token is none: ask for one"
        if not join_token:
            self._lacks = "no token that names it was given: ask for one"
        tls = self.url.startswith("https:")
        if self._pin and not tls:
            raise UsageError(
                f"the join token is for a super-node with HTTPS, and is not sent to {self.url}: use {_other(self.url)}, "
                "or a new token (`cubecast token`) if the super-node serves plain HTTP now"
            )
        self._trusts: ssl.SSLContext | None = None
        if self._pin:
            self._trusts = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nothing yet
            self._trusts.check_hostname = False  # the pin names the certificate, which names no host
        self._fetched = not self._pin
        verify = self._trusts or (httpx.create_ssl_context(trust_env=True) if tls else False)
        self.http = httpx.AsyncClient(base_url=self.url, timeout=timeout, trust_env=False, verify=verify)

    async def close(self) -> None:
        """Closes the connections."""
        await self.http.aclose()

    async def send(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        """Sends a request, over TLS to the super-node with the right certificate only.

        Raises:
            httpx.HTTPError: no answer.
            WrongTransport: the URL, the token and the super-node do not fit each other.
        """
        try:
            if not self._fetched:
                await self._fetch()
            request.extensions = {**request.extensions, "trace": _HandshakeCleanup()}
            response = await self.http.send(request, stream=stream)
        except httpx.HTTPError as error:
            if (found := self._mismatch(error)) is not None:
                raise WrongTransport(found) from error
            raise
        if response.status_code == httpx.codes.UPGRADE_REQUIRED or (
            response.is_redirect and response.headers.get("Location", "").startswith("https:")
        ):
            await response.aclose()
            raise WrongTransport(f"super-node {self.url} serves HTTPS; use {_other(self.url)}")
        return response

    def describe(self, error: Exception) -> str:
        """Why the super-node does not answer, and what to do about it."""
        reason = failure(error)
        advice = {"its host is unknown": "check --supernode"}.get(
            reason, "start it with `cubecast supernode` or check --supernode"
        )
        return f"super-node {self.url} does not answer ({reason}); {advice}"

    async def _fetch(self) -> None:
        """Trusts the super-node's certificate from now on, if it is the one that the token names."""
        url = urlsplit(self.url)
        anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE  # nothing is sent over it
        try:
            async with asyncio.timeout(CERTIFICATE_S):
                _, writer = await asyncio.open_connection(url.hostname, url.port or 443, ssl=anyone)
        except TimeoutError as error:
            raise httpx.ConnectTimeout("no certificate in time") from error
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        tls = writer.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True)
        writer.transport.abort()
        if certificate is None or hashlib.sha256(certificate).hexdigest() != self._pin:
            raise WrongTransport(self._another())
        assert self._trusts is not None
        self._trusts.load_verify_locations(cadata=certificate)
        self._fetched = True

    def _another(self) -> str:
        return (
            f"the super-node at {self.url} has another certificate than the one your token names: "
            "ask for a new token, or somebody is in between"
        )

    def _mismatch(self, error: Exception) -> str | None:
        """Why no other try can succeed; None if one can."""
        for cause in causes_of(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                if self._pin:
                    return self._another()
                if cause.verify_code == SELF_SIGNED:
                    return f"the super-node at {self.url} has a certificate of its own, and {self._lacks} (`cubecast token`)"
                return (
                    f"the certificate of the super-node at {self.url} is not trusted here "
                    f"({cause.verify_message.rstrip('.')}); check --supernode"
                )
            if isinstance(cause, ssl.SSLError) and cause.reason in NOT_TLS:
                use = f"use {_other(self.url)}"
                return f"super-node {self.url} serves plain HTTP; " + (
                    f"ask for a new token, and {use}: what is sent can then be read on the network"
                    if self._pin
                    else use
                )
        return None


@runtime_checkable
class _Stream(Protocol):
    async def aclose(self) -> None: ...


class _HandshakeCleanup:
    """Closes the socket of a TLS handshake that is cancelled; httpx closes that of one that fails only. Called as its trace."""

    def __init__(self) -> None:
        self._stream: _Stream | None = None

    async def __call__(self, event: str, info: Mapping[str, object]) -> None:
        opened = info.get("return_value")
        if event == "connection.connect_tcp.complete" and isinstance(opened, _Stream):
            self._stream = opened
        elif event == "connection.start_tls.failed" and self._stream is not None:
            await self._stream.aclose()


def supernode_url(text: str) -> str:
    """The complete URL of a super-node, without a slash at its end; `https://` is added if there is no scheme.

    Raises:
        UsageError: the scheme is not HTTP or HTTPS, or there is no host name or no valid port.
    """
    full = text if "://" in text else f"https://{text}"
    try:
        url = urlsplit(full)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"super-node {text!r} is not a valid URL; give one like https://203.0.113.5:7000")
    return f"{url.scheme}://{full.partition('://')[2]}".rstrip("/")


def _other(url: str) -> str:
    """The same URL with the other scheme."""
    scheme, _, rest = url.partition("://")
    return f"{'http' if scheme == 'https' else 'https'}://{rest}"
