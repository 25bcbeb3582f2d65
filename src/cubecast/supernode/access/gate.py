"""The checks of every request: join tokens, proofs of possession, and names that belong to keys."""

import time
from dataclasses import dataclass
from math import inf

from cubecast.errors import DirectoryError, TokenError
from cubecast.supernode.access.names import Names
from cubecast.supernode.access.revocations import Revocations
from cubecast.supernode.clock import SupernodeClock
from cubecast.tokens.authority import Authority, Bearer, JoinRights
from cubecast.tokens.proof import ProofChecker
from cubecast.types import HostId


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as it came over HTTP: the token it shows, the proof beside it, and what the proof is for.

    Attributes:
        path: with the query, as sent.
    """

    token: str
    proof: str
    method: str
    path: str
    body: bytes


class RightEnded(TokenError):
    """A host's join token has expired or was revoked."""

    def __init__(self, reason: str, bearer: Bearer) -> None:
        super().__init__(reason)
        self.bearer = bearer


class Gate:
    """Checks tokens and proofs, and issues credentials."""

    def __init__(self, authority: Authority, clock: SupernodeClock, names: Names, revocations: Revocations) -> None:
        self._authority = authority
        self._clock = clock
        self._proofs = ProofChecker()
        self.names = names
        self.revocations = revocations

    @property
    def public_key(self) -> str:
        """The key that verifies credentials and host records, hex."""
        return self._authority.verifier.public_key

    def nonce(self) -> str:
        """The nonce for the next proofs."""
        return self._proofs.nonce(self._clock.now_s())

    def person(self, token: str) -> JoinRights:
        """What a join token gives.

        Raises:
            TokenError: it is not a join token of this super-node, has expired, or is revoked.
        """
        rights = self._authority.verifier.join(token)
        self._check_revoked(rights.token_id)
        return rights

    def joining(self, request: SignedRequest, name: HostId) -> Bearer:
        """The host that asks to join: the holder of the key that made the proof.

        Raises:
            TokenError: the join token or the proof is not accepted, or the token does not allow this name.
            DirectoryError: the name belongs to another key.
        """
        rights = self.person(request.token)
        if not rights.permission.may("host", name):
            raise TokenError(f"this token does not allow a host named {name}")
        key = self._key_of(request)
        wait_s = self.names.held_s(name, key, self._clock.now_s())
        if wait_s is not None:
            state = "is taken" if wait_s == inf else f"belongs to a host that has left, and is free in {wait_s:.0f} s"
            raise DirectoryError(
                f"the name {name} {state}; choose another with --name, or join with that host's key: --key FILE"
            )
        return Bearer(name, rights.permission, key, rights.token_id, rights.expires_s, rights.quota)

    def check_credential(self, token: str) -> None:
        """Checks that this super-node issued a credential, to whomever.

        Raises:
            TokenError: it did not.
        """
        self._authority.verifier.credential(token, heard_s=0.0)

    def host(self, request: SignedRequest) -> Bearer:
        """The host that makes a request; whether it is a member is the caller's question.

        Raises:
            TokenError: the credential or the proof is not accepted, or its join token has expired or is revoked.
        """
        bearer = self._authority.verifier.credential(request.token, heard_s=0.0)
        if self._key_of(request) != bearer.key:
            raise TokenError(f"the proof is not by the key of host {bearer.host}")
        self.check_current(bearer)
        return bearer

    def check_current(self, bearer: Bearer) -> None:
        """Checks that the join token of a host has neither expired nor was revoked.

        Raises:
            RightEnded: it has, or was.
        """
        try:
            self._check_revoked(bearer.token_id)
        except TokenError as error:
            raise RightEnded(str(error), bearer) from error
        if time.time() > bearer.expires_s:
            raise RightEnded("the join token has expired; get a new one with `cubecast token`", bearer)

    def credential(self, bearer: Bearer) -> str:
        """A new credential for a host."""
        return self._authority.credential(bearer, self._clock.now_s())

    def _key_of(self, request: SignedRequest) -> str:
        now_s = self._clock.now_s()
        return self._proofs.check(request.proof, request.method, request.path, request.body, request.token, now_s)

    def _check_revoked(self, token_id: str) -> None:
        if self.revocations.is_revoked(token_id):
            raise TokenError("the join token was revoked; ask the owner of the super-node for another")
