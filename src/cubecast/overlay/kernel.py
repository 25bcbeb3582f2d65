"""Marks kernels: functions written in the subset of Python that Numba can compile.

A kernel is a plain function over numbers, arrays and NamedTuples of them, that calls other kernels only. A host runs it
as it is; the lab compiles the same function (`cubecast.lab.compilation`), so what the lab measures is what hosts call.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

MARK = "is_kernel"
"""Name of the attribute that marks a function as a kernel."""


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Marks a function as a kernel and returns it, otherwise unchanged."""
    setattr(function, MARK, True)
    return function


def is_kernel(function: object) -> bool:
    """Whether a function is marked as a kernel."""
    return getattr(function, MARK, False) is True
