"""A super-node in this process, for tests of the Python interface."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cubecast.overlay.cube import Cube
from cubecast.supernode.server import TOKEN_FILE, SupernodeConfig, serving


@pytest.fixture
async def supernode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A running super-node of shape 2^2; the environment names it and its token, as a user's would."""
    state = tmp_path / "state"
    async with serving(SupernodeConfig("127.0.0.1", 0, state, Cube(2, 2), 4, 1)) as service:
        url = f"https://127.0.0.1:{service.port}"
        monkeypatch.setenv("CUBECAST_SUPERNODE", url)
        monkeypatch.setenv("CUBECAST_TOKEN", f"@{state / TOKEN_FILE}")
        yield url
