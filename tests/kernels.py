"""Both forms of a kernel: as hosts run it, and compiled."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import pytest

from cubecast.lab.compilation import compiled

P = ParamSpec("P")
R = TypeVar("R")


def both_forms(function: Callable[P, R]) -> pytest.MarkDecorator:
    """Runs a test with the plain and with the compiled kernel as `run`."""
    return pytest.mark.parametrize("run", [function, compiled(function)], ids=["plain", "compiled"])
