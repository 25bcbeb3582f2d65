"""Deadlines are enforced in every test of this folder."""

from collections.abc import Iterator

import pytest

from cubecast.sandbox.wasm.engine import deadlines


@pytest.fixture(autouse=True)
def enforced_deadlines() -> Iterator[None]:
    with deadlines():
        yield
