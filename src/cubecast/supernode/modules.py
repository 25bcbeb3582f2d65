"""Modules of extensions that jobs need: in memory, for as long as a job needs them; their owners bring them again."""

import hashlib

from cubecast.errors import DirectoryError

TOTAL_BYTES_MAX = 64 << 20


class Modules:
    """Modules by SHA-256, hex."""

    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}

    def __contains__(self, digest: str) -> bool:
        return digest in self._held

    def add(self, digest: str, module: bytes) -> None:
        """Keeps a module.

        Raises:
            DirectoryError: it is another one, or there is no room.
        """
        if hashlib.sha256(module).hexdigest() != digest:
            raise DirectoryError("the module is not the one its SHA-256 names")
        if sum(map(len, self._held.values())) + len(module) > TOTAL_BYTES_MAX:
            raise DirectoryError(
                f"the super-node holds {TOTAL_BYTES_MAX >> 20} MiB of modules already; try again later"
            )
        self._held[digest] = module

    def get(self, digest: str) -> bytes:
        """A module.

        Raises:
            DirectoryError: it is not here.
        """
        if digest not in self._held:
            raise DirectoryError("the super-node does not have this module")
        return self._held[digest]

    def keep(self, needed: set[str]) -> None:
        """Forgets all others."""
        for digest in self._held.keys() - needed:
            del self._held[digest]
