"""Marks the functions that stay within the Python that Numba compiles.

A kernel is a plain function over numbers, arrays and NamedTuples of them, that calls other kernels only. A host runs it
as it is; the lab compiles the same function (`cubecast.lab.kernels`), so what the lab measures is what hosts call.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

MARK = "is_kernel"


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Marks a function as a kernel; the function is unchanged."""
    setattr(function, MARK, True)
    return function


def is_kernel(function: object) -> bool:
    """Whether a function was marked."""
    return getattr(function, MARK, False) is True
