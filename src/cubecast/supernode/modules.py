"""Modules of extensions, kept in memory while a job needs them; after a restart their owners upload them again."""

import hashlib

from cubecast.errors import DirectoryError, QuotaExceeded
from cubecast.tokens.authority import JoinRights

TOTAL_BYTES_MAX = 64 << 20
"""Maximum size of all modules together, bytes: bounds the super-node's memory."""


class Modules:
    """Modules by their SHA-256, hex."""

    def __init__(self) -> None:
        self._modules: dict[str, bytes] = {}
        self._token_ids: dict[str, str] = {}
        """The join token with which each was uploaded first, by digest."""

    def __contains__(self, digest: str) -> bool:
        return digest in self._modules

    def add(self, digest: str, module: bytes, rights: JoinRights) -> None:
        """Stores a module that was uploaded with a join token.

        Raises:
            DirectoryError: its SHA-256 is another one, or all modules together would be too large.
            QuotaExceeded: those of this token would be.
        """
        if hashlib.sha256(module).hexdigest() != digest:
            raise DirectoryError("the module is not the one that the SHA-256 in the request names")
        if digest in self._modules:
            return
        own = sum(len(self._modules[each]) for each, token_id in self._token_ids.items() if token_id == rights.token_id)
        if own + len(module) > rights.quota.module_bytes:
            raise QuotaExceeded(
                f"the modules of this token's jobs would take more than {rights.quota.module_bytes} bytes, its quota; end a "
                "job, or ask the owner of the super-node for a token with more (`cubecast token --max-module-bytes N`)"
            )
        if sum(map(len, self._modules.values())) + len(module) > TOTAL_BYTES_MAX:
            raise DirectoryError(
                f"the super-node holds {TOTAL_BYTES_MAX >> 20} MiB of modules already; try again later"
            )
        self._modules[digest], self._token_ids[digest] = module, rights.token_id

    def get(self, digest: str) -> bytes:
        """A module.

        Raises:
            DirectoryError: it is not stored.
        """
        if digest not in self._modules:
            raise DirectoryError("the super-node does not have this module")
        return self._modules[digest]

    def keep(self, needed: set[str]) -> None:
        """Deletes all other modules."""
        for digest in self._modules.keys() - needed:
            del self._modules[digest], self._token_ids[digest]
