"""Fixtures that several test packages use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from cubecast.media.synthesis import synthesise

os.environ["NUMBA_BOUNDSCHECK"] = "1"  # set before Numba compiles: an index out of bounds then raises

# The gate draws the same examples in every run: a change is judged by what it changes. `make soak` draws others each time.
settings.register_profile("gate", deadline=None, print_blob=True, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("gate")


@pytest.fixture(scope="session", autouse=True)
def state_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's state folder, with the keys of hosts that were given names, is one of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of H.264 and AAC."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    synthesise(path, seconds=2.0)
    return path
