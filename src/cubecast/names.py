"""What hosts and channels may be called, and how a host's address is written; checked wherever one is accepted."""

import re

from cubecast.errors import UsageError

NAME_MAX = 64
"""Maximum length of the name of a host or channel, characters."""
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_ADDRESS = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}")


def check_name(what: str, name: str) -> None:
    """Checks that a host or channel name is letters, digits, dots, dashes and underscores: names are parts of URLs and files.

    Raises:
        UsageError: it has another character, begins with a dot, is empty or too long.
    """
    if not name or len(name) > NAME_MAX or not set(name) <= _NAME or name.startswith("."):
        raise UsageError(
            f"{what} {name[:NAME_MAX]!r} is not allowed: use up to {NAME_MAX} letters, digits, dots, dashes, underscores"
        )


def check_address(address: str) -> None:
    """Checks that an address is HOST:PORT, an IPv6 host in brackets.

    Raises:
        UsageError: it is not of that form.
    """
    if not _ADDRESS.fullmatch(address) or not 0 < int(address.rpartition(":")[2]) < 65_536:
        raise UsageError(f"address {address[:100]!r} is not HOST:PORT, such as 203.0.113.5:4443 or [2001:db8::5]:4443")
