"""Modules of extensions, kept in memory while a job needs them; after a restart their owners upload them again."""

import hashlib

from cubecast.errors import DirectoryError

TOTAL_BYTES_MAX = 64 << 20
"""Maximum size of all modules together, bytes: bounds the super-node's memory."""


class Modules:
    """Modules by their SHA-256, hex."""

    def __init__(self) -> None:
        self._modules: dict[str, bytes] = {}

    def __contains__(self, digest: str) -> bool:
        return digest in self._modules

    def add(self, digest: str, module: bytes) -> None:
        """Stores a module.

        Raises:
            DirectoryError: its SHA-256 is another one, or all modules together would be too large.
        """
        if hashlib.sha256(module).hexdigest() != digest:
            raise DirectoryError("the module is not the one that the SHA-256 in the request names")
        if sum(map(len, self._modules.values())) + len(module) > TOTAL_BYTES_MAX:
            raise DirectoryError(
                f"the super-node holds {TOTAL_BYTES_MAX >> 20} MiB of modules already; try again later"
            )
        self._modules[digest] = module

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
            del self._modules[digest]
