"""`cubecast extension`, as authors use it."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import av
import pytest

from cubecast.media.synthesis import synthesise_light
from cubecast.sandbox.loading import SHIPPED
from cubecast.sandbox.trusted.confinement import missing
from tests.cli.processes import cubecast
from tests.sandbox.modules import module, wat

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    synthesise_light(path, 4.0)
    return path


@pytest.mark.parametrize("language", ["c", "zig", "assemblyscript", "wat"])
def test_a_new_extension_builds_is_in_order_runs_and_keeps_its_golden_file(
    tmp_path: Path, clip: Path, language: str
) -> None:
    if language == "assemblyscript" and shutil.which("asc") is None:
        pytest.skip("AssemblyScript's compiler is not on the path (npm install assemblyscript)")
    if language in ("c", "zig") and importlib.util.find_spec("ziglang") is None:
        pytest.skip("the Zig compiler is not installed (the extra `toolchain`)")
    folder, module = tmp_path / "mine", tmp_path / "mine" / "mine.wasm"
    golden = folder / "golden" / "clip.golden"
    for arguments in (
        ("new", "mine", "--lang", language, "--folder", str(folder)),
        ("build", str(folder)),
        ("run", str(module), str(clip), "--golden", str(golden)),
    ):
        done = cubecast("extension", *arguments, timeout=110)
        assert done.returncode == 0, done.stderr
    checked = cubecast("extension", "check", str(module))
    assert checked.returncode == 0, checked.stderr
    assert "in order" in checked.stdout
    assert "1 golden file" in checked.stdout
    golden.write_bytes(golden.read_bytes()[:-4])
    broken = cubecast("extension", "check", str(module))
    assert broken.returncode == 2
    assert "clip.golden is not a golden file" in broken.stderr


def test_a_file_goes_through_an_extension_and_the_figures_are_printed(tmp_path: Path, clip: Path) -> None:
    out = tmp_path / "out.mp4"
    done = cubecast("extension", "run", "downscale", str(clip), "-o", str(out), "--json", timeout=110)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["frames_in"] == figures["frames_out"] == 20
    assert (figures["traps"], figures["errors"], figures["dropped"]) == (0, 0, 0)
    assert figures["us_per_frame"] > 0
    with av.open(str(out)) as container:
        pictures = list(container.decode(video=0))
    assert len(pictures) == 20
    assert (pictures[0].width, pictures[0].height) == (80, 44)


def test_what_always_fails_does_not_pass_its_check_and_its_run_says_so(tmp_path: Path, clip: Path) -> None:
    file = tmp_path / "test.wasm"
    file.write_bytes(module(wat("(unreachable)")))
    done = cubecast("extension", "check", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert "unreachable" in done.stderr
    done = cubecast("extension", "run", str(file), str(clip))
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "none of the" in line]
    assert re.fullmatch(r"cubecast: test processed none of the \d+ frames: all of them bypassed it", line)


def test_an_author_reads_what_trusted_code_prints(tmp_path: Path) -> None:
    if missing():
        pytest.skip(f"no confinement here: {missing()}")
    file, key, keys = tmp_path / "mine.py", tmp_path / "key.pem", tmp_path / "keys"
    file.write_text('MANIFEST = {"name": "mine"}\ndef process_batch(frames):\n    print("\\x1b[2J", len(frames))\n')
    keys.write_text(cubecast("extension", "sign", str(file), "--key", str(key)).stdout)
    done = cubecast("extension", "check", str(file), "--trusted", str(keys))
    assert done.returncode == 0, done.stderr
    assert "extension mine: \\x1b[2J 16" in done.stderr.splitlines()


def test_an_author_learns_what_a_frame_costs_beside_native_code(tmp_path: Path, clip: Path) -> None:
    library, key, keys = tmp_path / "downscale.so", tmp_path / "key.pem", tmp_path / "keys"
    built = cubecast("extension", "build", "--native", str(SHIPPED.joinpath("downscale")), "-o", str(library))
    assert built.returncode == 0, built.stderr
    keys.write_text(cubecast("extension", "sign", str(library), "--key", str(key)).stdout)
    adownscalest = ("--native", str(library), "--trusted", str(keys))
    done = cubecast("extension", "bench", "downscale", str(clip), *adownscalest, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["frames"] > 0
    assert figures["ratio"] == pytest.approx(figures["batch_us"] / figures["native_us"])
    assert min(figures["alone_us"], figures["native_us"]) > 0
    other = cubecast("extension", "bench", "thin", str(clip), *adownscalest)
    assert (other.returncode, other.stdout) == (2, "")
    assert "--native is a build of downscale, not of thin" in other.stderr


def test_what_a_tap_finds_goes_beside_the_output(tmp_path: Path, clip: Path) -> None:
    out = tmp_path / "out.ts"
    done = cubecast("extension", "run", "trigger", str(clip), "-o", str(out), "--config", "hold_ms=0", timeout=110)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "out.ts.trigger.jsonl").read_text().splitlines()]
    assert lines
    assert {line["text"] for line in lines} <= {"motion", "rest"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "nothing.wasm"), "nothing.wasm: cannot be read"),
        (("check", "/etc/hostname"), "/etc/hostname: it is not a WebAssembly module"),
        (("run", "nope", "CLIP"), "shipped extensions are downscale"),
        (("run", "gain", "CLIP"), "gain processes audio; the stream has none of that"),
        (("run", "thin", "CLIP", "--config", "share"), "'share' is not K=V"),
        (("run", "thin", "CLIP", "--config", "share=2"), "thin: it does not accept this configuration"),
        (("run", "thin", "CLIP", "--config", "speed=2"), "there is no setting 'speed'; its settings are share"),
        (("run", "thin", "CLIP", "--event", "eclipse=1@2"), "is not KIND=VALUE@FRAME"),
        (("run", "thin", "CLIP", "-o", "/nowhere/x.ts"), "cannot write /nowhere/x.ts"),
        (("run", "thin", "/nowhere.mp4"), "cannot read /nowhere.mp4"),
        (("run", "thin", "CLIP", "-o", "-"), "name a file: -o FILE"),
        (("run", "thin", "CLIP", "-o", "CLIP"), "clip.mp4 is the input"),
        (("run", "thin", "CLIP", "-o", "LINK"), "link.mp4 is the input"),
        (("run", "thin", "CLIP", "--golden", "CLIP"), "clip.mp4 is the input"),
        (("run", "thin", "CLIP", "-o", "NEW.ts", "--golden", "NEW.ts"), "NEW.ts is the output of two"),
        (("run", "thin", "CLIP", "-o", "x.mkv"), "only .ts and .mp4 can be written"),
        (("bench", "thin", "CLIP", "--native", "thin"), "--native thin is no native build"),
        (("new", "Big"), "'Big' is not a valid name of an extension"),
        (("new", "x", "--lang", "cobol"), "invalid choice: 'cobol'"),
        (("build", "/nowhere"), "cannot read /nowhere/extension.toml"),
    ],
)
def test_bad_input_is_one_line_and_status_2(clip: Path, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    link, cache, before = tmp_path / "link.mp4", tmp_path / "cache", clip.read_bytes()
    link.symlink_to(clip)
    filled = [{"CLIP": str(clip), "LINK": str(link)}.get(each, each) for each in arguments]
    done = cubecast("extension", *filled, env={"XDG_CACHE_HOME": str(cache)}, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "--format" not in done.stderr, "an option that this command does not have"
    assert len(done.stderr.strip().splitlines()) == 1
    assert clip.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} <= {"link.mp4", "cache"}, "it left a file behind"


def test_a_module_is_not_written_over_its_source(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert cubecast("extension", "new", "mine", "--lang", "wat", "--folder", str(folder)).returncode == 0
    before = (folder / "mine.wat").read_bytes()
    done = cubecast("extension", "build", str(folder), "-o", str(folder / "mine.wat"))
    assert (done.returncode, (folder / "mine.wat").read_bytes()) == (2, before)
    assert "mine.wat is the input" in done.stderr


def test_an_event_after_the_last_frame_is_not_silently_dropped(clip: Path) -> None:
    done = cubecast("extension", "run", "thin", str(clip), "--event", "timer=1@99999999", "--event", "timer=1@0")
    assert done.returncode == 0, done.stderr
    assert "no event was sent before frame 99999999: the input has" in done.stderr


def test_a_source_that_does_not_build_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    assert cubecast("extension", "new", "bad", "--lang", "wat", "--folder", str(folder)).returncode == 0
    (folder / "bad.wat").write_text("(module (func (export 3)))")
    done = cubecast("extension", "build", str(folder))
    assert done.returncode == 2
    assert "bad.wat" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
