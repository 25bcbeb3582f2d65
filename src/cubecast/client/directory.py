"""The overview of the overlay, from the super-node."""

from collections.abc import Callable
from pathlib import Path

from cubecast.client.events import Event, Notice
from cubecast.client.settings import default_supernode, read_token
from cubecast.engine.protocol.http_bodies import Overview
from cubecast.host.directory.client import DirectoryClient


async def overview(
    supernode: str | None = None,
    token: str | Path | None = None,
    *,
    on_event: Callable[[Event], None] = lambda _: None,
) -> Overview:
    """The overlay's hosts, channels and subscriptions.

    Args:
        supernode, token: as for join.
        on_event: called with a Notice before each retry.

    Raises:
        UsageError: the URL or the token's file is wrong.
        DirectoryError: the super-node does not answer.
        TokenError: it does not accept the token.
    """
    url = supernode or default_supernode()
    client = DirectoryClient(url, read_token(token), lambda line: on_event(Notice(line)))
    try:
        return await client.overview()
    finally:
        await client.close()
