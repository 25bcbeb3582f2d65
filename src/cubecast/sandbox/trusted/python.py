"""Trusted Python code: an extension written as a file of plain functions.

    MANIFEST = {"name": "louder", "level": "decoded", "tracks": ["audio"]}

    def process_batch(frames):
        return frames

`init(tracks, config)` may return other tracks; `on_event(kind, time_us, value)` may return frames. Frames and tracks are
EncodedFrame and TrackFormat of cubecast.frames. Python code always runs in a confined worker process, which has loaded MODULES
before: the code can import these, and cannot load others.
"""

import ast
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import TypeVar

import msgspec

from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.frames import EncodedFrame, TrackFormat
from cubecast.sandbox.abi import FRAMES_MAX, EventKind, Manifest, check_manifest
from cubecast.sandbox.frame_exchange import Batch

T = TypeVar("T")

FRAMES_OUT_MAX = FRAMES_MAX
"""Maximum number of frames that one call may emit: as for modules."""

MODULES = (
    "cubecast.frames", "numpy", "numpy.fft", "numpy.linalg", "numpy.random",
    "array", "base64", "binascii", "bisect", "cmath", "collections", "collections.abc", "contextlib", "copy", "dataclasses",
    "datetime", "decimal", "enum", "fractions", "functools", "hashlib", "heapq", "io", "itertools", "json", "math", "operator",
    "queue", "random", "re", "statistics", "string", "struct", "time", "types", "typing", "zlib",
)  # fmt: skip
"""Modules that an extension can import. They compute only; others might do more while they are loaded."""


def load_modules() -> None:
    """Loads MODULES and makes Python find no others, once and before the process is confined."""
    for name in MODULES:
        importlib.import_module(name)
    product = sys.modules["numpy"].ones((2, 2))
    product @ product  # numpy's linear algebra reserves its memory at first use
    sys.path.clear()


def python_manifest(source: bytes) -> Manifest:
    """Reads the manifest of a Python extension without running its code.

    Raises:
        ExtensionRefused: the file is not valid Python, or its MANIFEST is missing, invalid or not a literal.
    """
    try:
        for node in ast.parse(source).body:
            if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["MANIFEST"]:
                return check_manifest(msgspec.convert(ast.literal_eval(node.value), Manifest))
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError) as error:
        raise ExtensionRefused(f"its MANIFEST cannot be read: {error}") from error
    raise ExtensionRefused('it has no MANIFEST = {"name": ...}')


class PythonInstance:
    """An extension in Python; implements Instance."""

    def __init__(
        self, source: bytes, manifest: Manifest, tracks: Sequence[TrackFormat], config: Mapping[str, str]
    ) -> None:
        """Runs the file and its `init`.

        Raises:
            ExtensionRefused: a function is missing, a setting is unknown, or the code raised an error.
        """
        self.manifest = manifest
        names: dict[str, object] = {"__name__": manifest.name}
        try:
            code: CodeType = compile(source, f"{manifest.name}.py", "exec")
            exec(code, names)  # noqa: S102  the code is trusted: its signature was checked
        except Exception as error:
            hint = f"; it can import {', '.join(MODULES)}" if isinstance(error, ImportError) else ""
            raise ExtensionRefused(f"it cannot be run: {_first_line(error)}{hint}") from error
        self._process = _function(names, "process_batch", needed=True)
        self._event = _function(names, "on_event", needed=bool(manifest.events))
        begin = _function(names, "init", needed=False)
        unknown = sorted(set(config) - set(manifest.config))
        if unknown:
            raise ExtensionRefused(f"there is no setting {unknown[0]!r}")
        self.tracks = tuple(tracks)
        if begin is not None:
            try:
                returned = begin(list(tracks), {**manifest.config, **config})
            except Exception as error:
                raise ExtensionRefused(f"its init raised {_first_line(error)}") from error
            if returned is not None:
                self.tracks = _all(returned, TrackFormat)

    def process(self, frames: Sequence[EncodedFrame]) -> Batch:
        """See Instance."""
        return Batch(self._call(self._process, list(frames)), [])

    def on_event(self, kind: EventKind, time_us: int, value: float) -> list[EncodedFrame]:
        """See Instance."""
        return self._call(self._event, kind.name.lower(), time_us, value)

    def memory_bytes(self) -> int:
        """See Instance; not known, as it shares the worker's memory."""
        return 0

    def close(self) -> None:
        """See Instance."""

    def _call(self, function: Callable[..., object] | None, *arguments: object) -> list[EncodedFrame]:
        if function is None:
            return []
        try:
            returned = function(*arguments)
        except Exception as error:
            raise ExtensionFailed(
                "trap", f"{getattr(function, '__name__', 'it')} raised {_first_line(error)}"
            ) from error
        frames = list(_all(returned if returned is not None else (), EncodedFrame))
        if len(frames) > FRAMES_OUT_MAX or any(not 0 <= frame.track < len(self.tracks) for frame in frames):
            raise ExtensionFailed("output", "it emitted too many frames, or a frame of an unknown track")
        return frames


def _function(names: Mapping[str, object], name: str, *, needed: bool) -> Callable[..., object] | None:
    found = names.get(name)
    if found is None and needed:
        raise ExtensionRefused(f"it has no function {name}")
    if found is not None and not callable(found):
        raise ExtensionRefused(f"its {name} is not a function")
    return found


def _all(returned: object, kind: type[T]) -> tuple[T, ...]:
    """What a function returned, one object or a sequence, as a tuple; raises ExtensionFailed if one has another type."""
    found = tuple(returned) if isinstance(returned, Sequence) else (returned,)
    if not all(isinstance(each, kind) for each in found):
        raise ExtensionFailed("output", f"it returned something that is not a {kind.__name__}")
    return found


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
