"""What hosts and channels may be called; checked wherever a name is accepted."""

from cubecast.errors import UsageError

NAME_MAX = 64
"""Maximum length of the name of a host or channel, characters."""
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def check_name(what: str, name: str) -> None:
    """Checks that a host or channel name is letters, digits, dots, dashes and underscores: names are parts of URLs and files.

    Raises:
        UsageError: it has another character, begins with a dot, is empty or too long.
    """
    if not name or len(name) > NAME_MAX or not set(name) <= _NAME or name.startswith("."):
        raise UsageError(
            f"{what} {name[:NAME_MAX]!r} is not allowed: use up to {NAME_MAX} letters, digits, dots, dashes, underscores"
        )
