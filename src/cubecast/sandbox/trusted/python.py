"""Trusted Python: a file with plain functions over frames, for authors' comfort.

    MANIFEST = {"name": "louder", "level": "decoded", "tracks": ["audio"]}

    def process_batch(frames):
        return frames

`init(tracks, config)` may return other tracks; `on_event(kind, time_us, value)` may return frames. Frames and tracks are
those of cubecast.frames. It runs in a confined worker only.
"""

import ast
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import TypeVar

import msgspec

from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.frames import EncodedFrame, TrackFormat
from cubecast.sandbox.abi import EventKind, Manifest, check_manifest
from cubecast.sandbox.frame_exchange import Batch

T = TypeVar("T")

FRAMES_OUT_MAX = 4096


def manifest_in(source: bytes) -> Manifest:
    """The manifest of a Python extension, read without running it.

    Raises:
        ExtensionRefused: the file is no Python, or has no MANIFEST of plain values.
    """
    try:
        for node in ast.parse(source).body:
            if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["MANIFEST"]:
                return check_manifest(msgspec.convert(ast.literal_eval(node.value), Manifest))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExtensionRefused(f"its MANIFEST cannot be read: {error}") from error
    raise ExtensionRefused('it has no MANIFEST = {"name": ...}')


class PythonInstance:
    """See Instance."""

    def __init__(
        self, source: bytes, manifest: Manifest, tracks: Sequence[TrackFormat], config: Mapping[str, str]
    ) -> None:
        """Runs the file and its init.

        Raises:
            ExtensionRefused: it has no process_batch, or raises.
        """
        self.manifest = manifest
        names: dict[str, object] = {"__name__": manifest.name}
        try:
            code: CodeType = compile(source, f"{manifest.name}.py", "exec")
            exec(code, names)  # noqa: S102  trusted: its signature was checked
        except Exception as error:
            raise ExtensionRefused(f"it cannot be run: {_said(error)}") from error
        self._process = _function(names, "process_batch", needed=True)
        self._event = _function(names, "on_event", needed=bool(manifest.events))
        begin = _function(names, "init", needed=False)
        unknown = sorted(set(config) - set(manifest.config))
        if unknown:
            raise ExtensionRefused(f"there is no setting {unknown[0]!r}")
        self.tracks = tuple(tracks)
        if begin is not None:
            try:
                made = begin(list(tracks), {**manifest.config, **config})
            except Exception as error:
                raise ExtensionRefused(f"its init raised {_said(error)}") from error
            if made is not None:
                self.tracks = _all(made, TrackFormat)

    def process(self, frames: Sequence[EncodedFrame]) -> Batch:
        """See Instance."""
        return Batch(self._call(self._process, list(frames)), [])

    def on_event(self, kind: EventKind, time_us: int, value: float) -> list[EncodedFrame]:
        """See Instance."""
        return self._call(self._event, kind.name.lower(), time_us, value)

    def memory_bytes(self) -> int:
        """See Instance. It shares the worker's memory."""
        return 0

    def close(self) -> None:
        """See Instance."""

    def _call(self, function: Callable[..., object] | None, *arguments: object) -> list[EncodedFrame]:
        if function is None:
            return []
        try:
            made = function(*arguments)
        except Exception as error:
            raise ExtensionFailed("trap", f"{getattr(function, '__name__', 'it')} raised {_said(error)}") from error
        frames = list(_all(made if made is not None else (), EncodedFrame))
        if len(frames) > FRAMES_OUT_MAX or any(not 0 <= frame.track < len(self.tracks) for frame in frames):
            raise ExtensionFailed("output", "it emitted too many frames, or one of a track there is not")
        return frames


def _function(names: Mapping[str, object], name: str, *, needed: bool) -> Callable[..., object] | None:
    found = names.get(name)
    if found is None and needed:
        raise ExtensionRefused(f"it has no function {name}")
    if found is not None and not callable(found):
        raise ExtensionRefused(f"its {name} is no function")
    return found


def _all(made: object, kind: type[T]) -> tuple[T, ...]:
    found = tuple(made) if isinstance(made, Sequence) else (made,)
    if not all(isinstance(each, kind) for each in found):
        raise ExtensionFailed("output", f"it gave something that is no {kind.__name__}")
    return found


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
