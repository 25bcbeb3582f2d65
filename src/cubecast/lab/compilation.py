"""Compiles the functions that `overlay.kernel` marks; hosts run the same functions as plain Python.

Compiled code is cached in a folder named after a hash of all sources and of Numba's version, so that a change of any of
them compiles again. Numba's own cache checks the file of the outermost function only.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import FunctionType
from typing import ParamSpec, TypeVar, cast

import numpy as np

import cubecast
from cubecast.cache import cache_folder
from cubecast.file_modes import check_not_writable_by_others
from cubecast.overlay.kernel import is_kernel

P = ParamSpec("P")
R = TypeVar("R")

CACHES_MAX = 3
"""Maximum number of folders of compiled code that are kept: that of the current sources, and the latest older ones."""


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The compiled form of a kernel. A function that is no kernel is copied; the copy calls compiled kernels."""
    return cast("Callable[P, R]", _compiled(cast("FunctionType", function)))


@cache
def _compiled(function: FunctionType) -> Callable[..., object]:
    linked = FunctionType(
        function.__code__, _linked_globals(function), function.__name__, function.__defaults__, function.__closure__
    )
    linked.__kwdefaults__ = function.__kwdefaults__
    linked.__module__, linked.__qualname__, linked.__doc__ = (
        function.__module__,
        function.__qualname__,
        function.__doc__,
    )
    return _jit(linked) if is_kernel(function) else linked


def _linked_globals(function: FunctionType) -> dict[str, object]:
    """The function's globals, in which the functions of this package that it uses are replaced by compiled ones."""
    known = dict(function.__globals__)
    for name in _names(function.__code__):
        value = known.get(name)
        ours = isinstance(value, FunctionType) and value.__module__.startswith("cubecast.")
        if ours and value is not function and (is_kernel(value) or not is_kernel(function)):
            known[name] = _compiled(cast("FunctionType", value))
    return known


def _names(code: object) -> set[str]:
    names = set(getattr(code, "co_names", ()))
    for constant in getattr(code, "co_consts", ()):
        if hasattr(constant, "co_names"):
            names |= _names(constant)
    return names


def _jit(function: FunctionType) -> Callable[..., object]:
    folder = _cache_folder()
    if folder is not None:
        os.environ.setdefault("NUMBA_CACHE_DIR", str(folder))
    import numba  # noqa: PLC0415  Numba reads NUMBA_CACHE_DIR when it is imported

    return cast("Callable[..., object]", numba.njit(cache=folder is not None, nogil=True)(function))


@cache
def _cache_folder() -> Path | None:
    """A folder for this version of the sources; of older ones, the last few are kept. None where none can be written.

    Raises:
        LocalError: other users can write it, and so the code that would be run from it.
    """
    base = cache_folder("kernels")
    check_not_writable_by_others(base)
    checked = os.environ.get("NUMBA_BOUNDSCHECK", "")
    digest = hashlib.sha256(f"{version('numba')} {np.__version__} {checked}".encode())
    for source in sorted(Path(cubecast.__file__).parent.glob("**/*.py")):
        digest.update(source.read_bytes())
    folder = base / digest.hexdigest()[:16]
    try:
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
        check_not_writable_by_others(folder)
        folder.touch()
        for old in sorted(base.iterdir(), key=lambda path: path.stat().st_mtime)[:-CACHES_MAX]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError:  # without a cache only compile time is lost
        return None
    return folder if os.access(folder, os.W_OK) else None
