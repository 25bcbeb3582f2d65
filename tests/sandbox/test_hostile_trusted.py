"""Trusted code that turns against its host: it is confined before its first line, and the host outlives it."""

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.frames import EncodedFrame
from cubecast.sandbox.abi import Manifest
from cubecast.sandbox.toolchain.build import build_native
from cubecast.sandbox.trusted import worker as host_side
from cubecast.sandbox.trusted.confinement import missing, missing_landlock
from cubecast.sandbox.trusted.output import LINE_CHARACTERS_MAX, LOGGER, OUTPUT_BYTES_MAX
from cubecast.sandbox.trusted.rings import RingFiles
from cubecast.sandbox.trusted.worker import WorkerInstance
from cubecast.sandbox.trusted.worker_process import EXCHANGE_BYTES
from tests.conditions import until
from tests.sandbox.modules import TRACKS, frames
from tests.sandbox.trusted import PASS, signed, worker

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"no confinement here: {missing()}")

HOST = os.getpid()
REPORT = """
from dataclasses import replace
def process_batch(frames):
    return [replace(frame, payload=RESULT.encode()) for frame in frames]
"""
"""An extension that emits RESULT in every frame."""
PYTHON = {
    "read a file": 'open("/etc/passwd")',
    "write a file": 'open("/tmp/cubecast-worker-was-here", "w")',
    "list a folder": 'os.listdir("/")',
    "stat a file": 'os.stat("/etc/passwd")',
    "open its own memory": 'os.open("/proc/self/mem", os.O_RDWR)',
    "fork": "os.fork()",
    "start a program": 'os.execv("/bin/true", ["true"])',
    "start a thread": "_thread.start_new_thread(print, ())",
    "signal its host": f"os.kill({HOST}, 0)",
    "make code": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
    "raise its limits": "resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
    "load more code": 'ctypes.CDLL("/lib/x86_64-linux-gnu/libbz2.so.1.0")',
}
"""Attempts in Python, each of which raises an error."""
SYSTEM_CALLS = {
    "socket": "libc.socket(2, 1, 0)",
    "pair of sockets": "libc.socketpair(1, 1, 0, (ctypes.c_int * 2)())",
    "fork": "libc.fork()",
    "signal": f"libc.kill({HOST}, 0)",
    "ptrace": f"libc.ptrace(16, {HOST}, None, None)",
    "memory of its host": f"libc.process_vm_readv({HOST}, None, 0, None, 0, 0)",
    "new file": "libc.memfd_create(b'x', 0)",
    "open": "libc.open(b'/etc/passwd', 0)",
    "remove": "libc.unlink(b'/tmp/cubecast-nothing')",
    "outlive its host": "libc.prctl(1, 0, 0, 0, 0)",
    "session": "libc.setsid()",
    "rights": "libc.setresuid(0, 0, 0)",
    "namespace": "libc.unshare(0x10000000)",
    "defective memory": "libc.madvise(page, 4096, 100)",
    "limits": f"libc.prlimit({HOST}, 9, None, None)",
    "io_uring": "libc.syscall(425, 1, ctypes.create_string_buffer(200))",
}
"""Attempts by direct system calls; each returns -1 with EPERM."""


def emitted(source: str, folder: Path, report: str = REPORT) -> str:
    """What an extension that ends with `report` emits; its process is gone afterwards."""
    here = worker(source + report, folder)
    try:
        (frame,) = here.process(frames(1)).frames
    finally:
        here.close()
    assert not Path(f"/proc/{here._process.pid}").exists()
    return frame.payload.decode()


@pytest.mark.parametrize("where", ["top level", "init", "process_batch"])
def test_it_can_do_nothing_but_compute(where: str, tmp_path: Path) -> None:
    source = f"""import _thread, ctypes, mmap, os, resource
RESULT = "not tried"
def attempt_all():
    global RESULT
    RESULT = ""
    for name, attempt in {PYTHON!r}.items():
        try:
            RESULT += f"{{name}}: {{eval(attempt)}} "
        except (OSError, RuntimeError, ValueError):
            pass
"""
    calls = {
        "top level": "attempt_all()\n",
        "init": "def init(tracks, config):\n    attempt_all()\n",
        "process_batch": "class Late:\n    def encode(self):\n        attempt_all()\n        return RESULT.encode()\n",
    }
    late = REPORT.replace("RESULT", "Late()") if where == "process_batch" else ""
    assert emitted(source + calls[where], tmp_path, late or REPORT) == ""
    assert not Path("/tmp/cubecast-worker-was-here").exists()


def test_no_system_call_reaches_out_of_its_process(tmp_path: Path) -> None:
    source = f"""import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
page = ctypes.c_void_p(ctypes.addressof((ctypes.c_char * 8192).from_buffer(mmap.mmap(-1, 8192))))
RESULT = ""
for name, attempt in {SYSTEM_CALLS!r}.items():
    ctypes.set_errno(0)
    result, error = eval(attempt), ctypes.get_errno()
    if result != -1 or error != 1 and (name, error) != ("defective memory", 22):  # 22: this kernel cannot do it for anyone
        RESULT += f"{{name}}: {{ctypes.get_errno()}} "
"""
    assert emitted(source, tmp_path) == ""


def test_it_has_its_rings_and_its_output_and_no_other_descriptors(tmp_path: Path) -> None:
    kept = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(kept, True)
    try:
        here = worker("import os\nRESULT = ''\n" + REPORT, tmp_path)
        folder = Path(f"/proc/{here._process.pid}/fd")
        targets = sorted(str(each.readlink()).split(":")[0] for each in folder.iterdir())
        here.close()
    finally:
        os.close(kept)
    memory, wakeup = "/memfd", "anon_inode"
    assert [each for each in targets if not each.startswith(memory)] == ["/dev/null", wakeup, wakeup, "pipe", "pipe"]
    assert sum(each.startswith(memory) for each in targets) == 2


def test_what_it_finds_in_its_environment_and_modules_is_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBECAST_SECRET", "of the host")
    assert emitted("import os\nRESULT = os.environ.get('CUBECAST_SECRET', '')\n", tmp_path) == ""
    with pytest.raises(ExtensionRefused, match=r"No module named 'webbrowser'; it can import cubecast\.frames, numpy"):
        worker("import webbrowser\n" + PASS, tmp_path)


def test_memory_is_limited_by_the_manifest(tmp_path: Path) -> None:
    taken = """
held = []
try:
    while True:
        held.append(bytearray(1 << 20))
except MemoryError:
    RESULT = str(len(held))
    held.clear()
"""
    assert 16 <= int(emitted(taken, tmp_path)) <= 16 + (EXCHANGE_BYTES >> 20)
    shared = "import mmap\n" + taken.replace("bytearray(1 << 20)", "mmap.mmap(-1, 1 << 20)").replace(
        "MemoryError", "OSError"
    )
    assert 16 <= int(emitted(shared, tmp_path)) <= 16 + (EXCHANGE_BYTES >> 20)
    here = worker("held = []\ndef process_batch(frames):\n    while True: held.append(bytearray(1 << 20))\n", tmp_path)
    with pytest.raises(ExtensionFailed, match="raised MemoryError") as failed:
        here.process(frames(1))
    assert failed.value.kind == "trap"


def test_a_picture_of_4k_passes_with_the_least_memory(tmp_path: Path) -> None:
    here = worker('MANIFEST = {"name": "mine", "memory_mib": 1, "deadline_ms": 1000}\n' + PASS, tmp_path)
    picture = EncodedFrame(0, 0, 0, 0, keyframe=True, payload=bytes(3840 * 2160 * 3 // 2))
    try:
        for _ in range(4):
            assert here.process([picture]).frames == [picture]
    finally:
        here.close()


def test_it_cannot_truncate_the_memory_of_its_rings(tmp_path: Path) -> None:
    source = """import os
RESULT = ""
for descriptor in range(3, 64):
    try:
        os.truncate(descriptor, 0)
        RESULT += f"{descriptor} "
    except OSError:
        pass
"""
    assert emitted(source, tmp_path) == ""


@pytest.mark.parametrize("word", [0, 1, 2**31, 2**63, 2**64 - 1])
def test_garbage_in_a_ring_is_a_failure_of_the_extension(word: int, tmp_path: Path) -> None:
    source = f"""import gc
def process_batch(frames):
    for ring in gc.get_objects():
        if type(ring).__name__ == "Ring":
            for at in range(len(ring._words)):
                ring._words[at] = {word}
            ring._bytes[192:2192] = bytes([255]) * 2000
    while True: pass
"""
    here = worker(source, tmp_path)
    try:
        with pytest.raises(ExtensionFailed):
            here.process(frames(1))
    finally:
        here.close()


def test_an_answer_that_no_worker_gives_is_a_failure_of_the_extension(tmp_path: Path) -> None:
    source = """import gc, sys
messages = sys.modules["cubecast.sandbox.trusted.messages"]
def process_batch(frames):
    answers = [each for each in gc.get_objects() if type(each).__name__ == "Ring"]
    for ring in answers:
        ring.push(messages.encode(ANSWER))
    return frames
"""
    for answer, said in (
        ('messages.Failed("", "no\\x1b[2Jmore")', r"^no\\x1b\[2Jmore$"),
        ("messages.Begun((), 3)", "does not fit"),
        ("[1, 2, [3]]", "invalid answer"),
        ("messages.Emitted((frames[0].__class__(0, 1 << 63, 0, 0, True, b''),))", "does not fit"),
    ):
        here = worker(source.replace("ANSWER", answer), tmp_path)
        with pytest.raises(ExtensionFailed, match=said):
            here.process(frames(1))


NATIVE = """
#include "cubecast.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int was_possible = 1024;

static int attempts(int later) {
  struct stat found;
  return (open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0)
    | (open("/tmp/cubecast-worker-was-here", O_CREAT | O_WRONLY, 0600) >= 0) << 1
    | (socket(AF_INET, SOCK_STREAM, 0) >= 0) << 2 | (fork() >= 0) << 3 | (execl("/bin/true", "true", (char *)0) >= 0) << 4
    | (memfd_create("x", 0) >= 0) << 5 | (ftruncate(5, 0) >= 0) << 6
    | (later && stat("/etc/passwd", &found) == 0) << 7
    | (later && mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) << 8
    | (later && open("/proc/self/fd/2", O_RDONLY | O_CLOEXEC) >= 0) << 9;
}

__attribute__((constructor)) static void first(void) { was_possible = attempts(0); }

CUBECAST_EXPORT int32_t init(int32_t bytes) { (void)bytes; return was_possible | attempts(1); }

CUBECAST_EXPORT int32_t process_batch(int32_t count) { return count; }
"""
"""An extension that returns from init what its constructor, and init, could do: one bit for each."""


@pytest.mark.skipif(bool(missing_landlock()), reason=f"no native code here: {missing_landlock()}")
@pytest.mark.skipif(shutil.which("gcc") is None and shutil.which("cc") is None, reason="no C compiler for native code")
def test_the_constructor_of_a_library_can_do_nothing_but_compute(tmp_path: Path) -> None:
    (tmp_path / "extension.toml").write_text('name = "mine"\n')
    (tmp_path / "mine.c").write_text(NATIVE)
    file = tmp_path / "mine.so"
    file.write_bytes(build_native(tmp_path))
    here = signed(file).make(TRACKS, {})  # init returns 0
    here.close()
    assert not Path("/tmp/cubecast-worker-was-here").exists()


def test_without_landlock_python_is_confined_and_native_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(host_side, "missing_landlock", lambda: "the kernel has no Landlock")
    worker(PASS, tmp_path).close()
    assert log.messages == ["extension mine: only the filter of system calls confines it: the kernel has no Landlock"]
    with pytest.raises(ExtensionRefused, match="must run in a confined process, but the kernel has no Landlock"):
        WorkerInstance("native", b"\x7fELF", Manifest(name="mine"), TRACKS, {})


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extensions have half a second to initialise."""
    monkeypatch.setattr(host_side, "BEGIN_S", 0.5)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("source", ["while True: pass\n", "def init(tracks, config):\n    while True: pass\n"])
def test_a_loop_while_it_starts_ends_at_its_deadline(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes: list[subprocess.Popen[bytes]] = []
    start = host_side._started

    def started(files: Sequence[RingFiles], output: int) -> subprocess.Popen[bytes]:
        processes.append(start(files, output))
        return processes[-1]

    monkeypatch.setattr(host_side, "_started", started)
    with pytest.raises(ExtensionFailed) as failed:
        worker(source + PASS, tmp_path)
    assert failed.value.kind == "deadline"
    assert [process.returncode for process in processes] == [-signal.SIGKILL]


@pytest.mark.parametrize("end", ["os._exit(3)", "raise SystemExit", "ctypes.string_at(0)"])
def test_a_process_that_ends_while_it_starts_is_a_failure(end: str, tmp_path: Path) -> None:
    with pytest.raises(ExtensionFailed, match="ended with status") as failed:
        worker(f"import ctypes, os\n{end}\n" + PASS, tmp_path)
    assert failed.value.kind == "trap"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING, LOGGER.name):
        yield caplog


def test_what_it_prints_is_logged_without_control_characters(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    source = (
        'import os, sys\nprint("begun", file=sys.stderr)\nRESULT = ""\nos.write(2, b"\\x1b[2J\\xff\\x07\\xc2\\x9b")\n'
    )
    emitted(source, tmp_path)
    assert log.messages == ["extension mine: begun", r"extension mine: \x1b[2J\xff\x07\x9b"]


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("text", ["'x' * 99", "'x' * 100_000", "''"])
def test_a_flood_of_output_is_cut_off(text: str, tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ExtensionFailed):
        worker(f"import sys\nwhile True: print({text}, file=sys.stderr)\n" + PASS, tmp_path)
    assert sum(map(len, log.messages)) <= 2 * OUTPUT_BYTES_MAX
    assert max(map(len, log.messages)) <= LINE_CHARACTERS_MAX + 20
    assert log.messages[-1] == "extension mine: its further output is not shown"


def test_it_ends_with_its_host(tmp_path: Path) -> None:
    worker(PASS, tmp_path).close()
    script = f"""import sys
from pathlib import Path
from cubecast.sandbox.loading import load
from tests.sandbox.modules import TRACKS
here = load({str(tmp_path / "mine.py")!r}, trusted=Path({str(tmp_path / "keys")!r})).make(TRACKS, {{}})
print(here._process.pid, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as host:
        assert host.stdout is not None
        number = int(host.stdout.readline())
        assert Path(f"/proc/{number}").exists()
        host.kill()
    until(lambda: not Path(f"/proc/{number}").exists() or "Z" in Path(f"/proc/{number}/stat").read_text())


def test_it_has_a_session_and_a_single_thread_of_its_own(tmp_path: Path) -> None:
    here: WorkerInstance = worker(PASS, tmp_path)
    status = Path(f"/proc/{here._process.pid}/status").read_text()
    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert (found["Threads"], found["NoNewPrivs"], found["Seccomp"]) == ("1", "1", "2")
    assert int(found["CapEff"], 16) == int(found["CapPrm"], 16) == 0
    assert os.getsid(here._process.pid) == here._process.pid != os.getsid(0)
    here.close()
