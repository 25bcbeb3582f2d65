"""Trusted code in a confined process: it can only compute, and no failure of it ends the host."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.frames import EncodedFrame
from cubecast.sandbox.abi import EventKind
from cubecast.sandbox.loading import SHIPPED, load
from cubecast.sandbox.toolchain.build import build_native
from cubecast.sandbox.toolchain.golden import replay
from cubecast.sandbox.trusted.confinement import missing
from cubecast.sandbox.trusted.signatures import sign
from tests.sandbox.modules import TRACKS, VIDEO, frames
from tests.sandbox.trusted import KEY, PASS, extension, worker

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"no confinement here: {missing()}")


def test_python_functions_over_frames(tmp_path: Path) -> None:
    source = """from dataclasses import replace
from cubecast.frames import Kind, TrackFormat
MANIFEST = {"name": "mine", "config": {"add": "!"}, "events": ["timer"], "deadline_ms": 200}
def init(tracks, config):
    global add
    add = config["add"].encode()
    return [*tracks, TrackFormat(Kind.DATA, "note")]
def process_batch(frames):
    return [replace(frame, payload=frame.payload + add) for frame in frames if not frame.keyframe]
def on_event(kind, time_us, value):
    from cubecast.frames import EncodedFrame
    return EncodedFrame(2, time_us, time_us, 0, True, f"{kind} {value}".encode())
"""
    here = extension(source, tmp_path).make(TRACKS, {"add": "?"})
    assert [track.codec for track in here.tracks] == ["h264", "aac", "note"]
    wanted = [f.payload + b"?" for f in frames(6) if not f.keyframe]
    assert [frame.payload for frame in here.process(frames(6)).frames] == wanted
    (note,) = here.on_event(EventKind.TIMER, 5, 2.0)
    assert (note.track, note.payload) == (2, b"timer 2.0")
    here.close()


@pytest.mark.skipif(shutil.which("gcc") is None and shutil.which("cc") is None, reason="no C compiler for native code")
@pytest.mark.parametrize("name", ["thin", "loudness"])
def test_native_code_emits_what_the_module_does(name: str, tmp_path: Path) -> None:
    file, keys = tmp_path / f"{name}.so", tmp_path / "keys"
    file.write_bytes(build_native(Path(str(SHIPPED.joinpath(name)))))
    (tmp_path / f"{name}.so.sig").write_text(sign(file.read_bytes(), KEY))
    keys.write_text(KEY.public_key().public_bytes_raw().hex())
    (recording,) = Path(str(SHIPPED.joinpath(name, "golden"))).glob("*.golden")
    replay(load(str(file), trusted=keys), recording)


def test_an_endless_loop_ends_at_its_deadline_with_its_process(tmp_path: Path) -> None:
    here = worker("def process_batch(frames):\n    while True: pass\n", tmp_path)
    with pytest.raises(ExtensionFailed) as failed:
        here.process(frames(1))
    assert failed.value.kind == "deadline"
    assert here._process.poll() == -signal.SIGKILL


def test_a_process_that_is_killed_is_a_typed_failure(tmp_path: Path) -> None:
    here = worker(PASS, tmp_path)
    assert here.process(frames(2)).frames == frames(2)
    os.kill(here._process.pid, signal.SIGKILL)
    here._process.wait()
    with pytest.raises(ExtensionFailed, match="ended with status -9"):
        here.process(frames(1))
    with pytest.raises(ExtensionFailed, match="its process has ended"):
        here.process(frames(1))


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("def process_batch(frames):\n    return 5\n", "output"),
        ("def process_batch(frames):\n    raise KeyError('x')\n", "trap"),
        (
            "from dataclasses import replace\ndef process_batch(frames):\n    return [replace(f, track=9) for f in frames]\n",
            "output",
        ),
    ],
)
def test_invalid_results_are_failures(source: str, kind: str, tmp_path: Path) -> None:
    here = worker(source, tmp_path)
    with pytest.raises(ExtensionFailed) as failed:
        here.process(frames(1))
    assert failed.value.kind == kind


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (PASS, "it has no MANIFEST"),
        ("MANIFEST = {[]: 1}\n" + PASS, "MANIFEST cannot be read"),
        ("MANIFEST = open('/etc/passwd').read()\n" + PASS, "MANIFEST cannot be read"),
        ("MANIFEST = {\n", "MANIFEST cannot be read"),
        ('MANIFEST = {"name": "mine", "speed": 3}\n', "MANIFEST cannot be read"),
        ('MANIFEST = {"name": "mine"}\n', "no function process_batch"),
        ('MANIFEST = {"name": "mine"}\nraise ValueError("no")\n', "cannot be run: ValueError: no"),
        ('MANIFEST = {"name": "mine"}\nprocess_batch = 3\n', "is not a function"),
    ],
)
def test_a_file_that_is_not_an_extension_is_refused(source: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ExtensionRefused, match=said):
        extension(source, tmp_path).make(TRACKS, {})


def test_large_frames_return_unchanged(tmp_path: Path) -> None:
    here = worker(PASS, tmp_path)
    picture = EncodedFrame(0, 0, 0, 0, keyframe=True, payload=os.urandom(3 * 2**20))
    for _ in range(12):  # wraps around the ring several times
        assert here.process([picture]).frames == [picture]
    assert here.tracks[0] == VIDEO
    here.close()


def test_a_long_batch_of_large_frames_is_processed_in_parts_and_in_order(tmp_path: Path) -> None:
    here = worker(PASS, tmp_path)
    large = frames(12, size=3 << 20)
    try:
        batch = here.process(large)
        assert [(frame.pts_us, len(frame.payload)) for frame in batch.frames] == [
            (frame.pts_us, len(frame.payload)) for frame in large
        ]
        assert here.process([]).frames == []
    finally:
        here.close()
