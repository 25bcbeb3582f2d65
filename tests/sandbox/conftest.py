"""Every test here has the clock of deadlines running."""

from collections.abc import Iterator

import pytest

from cubecast.sandbox.wasm.engine import deadlines


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    with deadlines():
        yield
