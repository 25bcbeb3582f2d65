"""Bad input: one clear line, exit status 2, no traceback, nothing lost elsewhere."""

from pathlib import Path

import pytest

from cubecast.cli.main import COMMANDS
from tests.cli.processes import cubecast

pytestmark = pytest.mark.system

NOWHERE = ("--supernode", "127.0.0.1:1", "--token", "x")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, clip: Path) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "text.txt").write_text("no media here\n" * 20)
    (folder / "matrix.txt").write_text("0 1 2\n1 0\n")
    (folder / "small.txt").write_text("0 1\n1 0\n")
    (folder / "one.txt").write_text("0\n")
    (folder / "junk.npz").write_text("junk")
    scenarios = {
        "unknown": 'hosts = 9\ncolour = "blue"',
        "range": "hosts = 1",
        "crowd": "hosts = 3\nchannels = 3",
        "elsewhere": 'hosts = 9\nnetwork = "nowhere"',
        "nowhere": 'hosts = 9\nnetwork = ""',
        "endless": "hosts = 9\nbound_ms = [500.0, inf]",
        "digits": f"hosts = {'9' * 5000}",
        "nested": f"hosts = {'[' * 100_000}",
        "late": "hosts = 9\nseconds = 5.0\n[[partitions]]\nat_s = inf\nfor_s = 1.0",
    }
    for name, text in scenarios.items():
        (folder / f"{name}.toml").write_text(f"{text}\n")
        scenarios[name] = str(folder / f"{name}.toml")
    return scenarios | {
        "text": str(folder / "text.txt"),
        "matrix": str(folder / "matrix.txt"),
        "small": str(folder / "small.txt"),
        "one": str(folder / "one.txt"),
        "junk": str(folder / "junk.npz"),
        "clip": str(clip),
        "folder": str(folder),
    }


CASES: list[tuple[tuple[str, ...], str]] = [
    (("dance",), "no command 'dance'"),
    (("publish", "news"), "required: source"),
    (("publish", "news", "/nowhere.mp4", *NOWHERE), "cannot read /nowhere.mp4: No such file"),
    (("publish", "news", "{text}", *NOWHERE), "Invalid data"),
    (("publish", "news", "-", "--hold"), "standard input"),
    (("publish", "news", "{clip}", "--fan-out", "-1"), "--fan-out"),
    (("publish", "news", "{clip}", "--listen", "nonsense"), "not HOST:PORT"),
    (("publish", "news", "{clip}", "--supernode", "ftp://x"), "not a valid URL"),
    (("publish", "news", "{clip}", "--token", "@/nowhere"), "cannot read token file"),
    (("publish", "news", "{clip}", *NOWHERE), "does not answer"),
    (("subscribe", "news", "--bound", "soon"), "not a time"),
    (("subscribe", "news", "--bound", "0ms"), "outside"),
    (("subscribe", "news", "--json", "-o", "-"), "standard output"),
    (("subscribe", "news", "-o", "/nowhere/x.ts", *NOWHERE), "cannot write /nowhere/x.ts"),
    (("subscribe", "news", "--format", "avi"), "'avi' is none of ts, mp4"),
    (("subscribe", "news", "--format", "ts", *NOWHERE), "add -o FILE"),
    (("host", "--policy", "best"), "'best' is none of odr, random, greedy"),
    (("route", "2^4", "0000", "1111", "--policy", "best"), "'best' is none of odr, random, greedy"),
    (("supernode", "--shape", "1^1", "--state", "{folder}/a"), "shape 1^1 is impossible"),
    (("supernode", "--listen", "127.0.0.1", "--state", "{folder}/b"), "not HOST:PORT"),
    (("supernode", "--state", "/proc/nowhere"), "cannot use /proc"),
    (("supernode", "--expect", "0"), "whole number"),
    (("supernode", "--shape", "2^26", "--state", "{folder}/c"), "the maximum of a live overlay"),
    (("publish", "a b", "{clip}", *NOWHERE), "channel name 'a b' is not allowed"),
    (("subscribe", "../x", *NOWHERE), "channel name '../x' is not allowed"),
    (
        ("subscribe", "news", "-o", "{folder}/x.mkv", *NOWHERE),
        "only .ts and .mp4 can be written, or choose with --format",
    ),
    (("host", "--subscribe", "news=1s:{folder}/x.mkv", *NOWHERE), "only .ts and .mp4 can be written"),
    (("host", "--subscribe", "a=1s:x.ts", "--subscribe", "b=1s:x.ts", *NOWHERE), "x.ts is the output of two"),
    (("host", "--publish", "a={clip}", "--subscribe", "b=1s:{clip}", *NOWHERE), "clip.mp4 is the input"),
    (("demo", "--clip", "{clip}", "-o", "{clip}"), "clip.mp4 is the input"),
    (
        ("process", "a", "b", "--extension", "thin", "--at", "auto", "--trusted", "keys"),
        "--trusted is for a channel made here",
    ),
    (
        ("process", "a", "b", "--extension", "thin", "--at", "auto", "--fan-out", "2"),
        "--fan-out is for a channel made here",
    ),
    (("host", "--advertise", "foo bar:1", *NOWHERE), "is not HOST:PORT"),
    (("host", "--advertise", "127.1:1", *NOWHERE), "--advertise: address '127.1:1' is not IP:PORT"),
    (("host", "--advertise", "224.0.0.1:1", *NOWHERE), "is a multicast address"),
    (("host", "--source-address", "10.9.9.9", *NOWHERE), "not an address of this machine"),
    (("host", "--name", "a/b", *NOWHERE), "host name 'a/b' is not allowed"),
    (("demo", "-o", "/nowhere/x.ts"), "cannot write /nowhere/x.ts"),
    (("demo", "--picture", "/nowhere/x.svg"), "cannot write /nowhere/x.svg"),
    (("token", "--state", "/nowhere"), "does not exist"),
    (("route", "2^4", "0000", "2222"), "digits below 2"),
    (("route", "2x4", "0000", "1111"), "not RADIX^DIMENSIONS"),
    (("emulator", "--network", "{matrix}", "--hosts", "2"), "line 1"),
    (("emulator", "--network", "nowhere"), "not known"),
    (("emulator", "--loss", "2"), "'2' is not a share"),
    (("emulator", "--loss", "abc"), "'abc' is not a share"),
    (("emulator", "--jitter", "abc"), "'abc' is not a time; write 20ms"),
    (("emulator", "--jitter", "1h"), "'1h' is not a time"),
    (("emulator", "--jitter", "99s"), "jitter 99000 ms is outside"),
    (("emulator", "--net", "17"), "odd"),
    (("demo", "--hosts", "1"), "whole number"),
    (("demo", "--hosts", "4", "--subscribers", "4"), "one host publishes"),
    (("demo", "--clip", "/nowhere.mp4"), "cannot read /nowhere.mp4"),
    (("demo", "--clip", "{text}"), "Invalid data"),
    (("demo", "--network", "{matrix}"), "matrix.txt, line 1"),
    (("demo", "--network", "{small}"), "contains 2 hosts"),
    (("demo", "--network", "missing.txt"), "no such file"),
    (("demo", "--shape", "2^2"), "larger one"),
    (("demo", "--policy", "best"), "'best' is none of odr, random, greedy"),
    (("demo", "--tree", "oak"), "'oak' is none of cube, graft, hybrid"),
    (("publish", "news", "{clip}", "--tree", "oak"), "'oak' is none of cube, graft, hybrid"),
    (("publish", "news", "{clip}", "--for", "soon"), "not a time; write 90s, 45m or 2h"),
    (("publish", "news", "{clip}", "--for", "7200s", *NOWHERE), "does not answer"),
    (("publish", "news", "{clip}", "--for", "721h"), "30 days"),
    (("testbed",), "required: scenario"),
    (("testbed", "earthquake"), "invalid choice: 'earthquake'"),
    (("testbed", "relay-kill", "--hosts", "1"), "whole number"),
    (("testbed", "relay-kill", "--hosts", "4", "--subscribers", "4"), "1 publish, so take 1 to 3"),
    (("testbed", "churn", "--hosts", "3"), "take at least 4 --hosts"),
    (("testbed", "grow-shrink", "--seconds", "9s"), "leave --seconds out"),
    (("testbed", "jitter", "--seconds", "1ms"), "5 s or more"),
    (("testbed", "jitter", "--seconds", "4"), "5 s or more"),
    (("lab", "simulate", "{endless}"), "bound_ms"),
    (("testbed", "relay-kill", "--runs", "0"), "--runs"),
    (("testbed", "relay-kill", "--network", "{matrix}"), "matrix.txt, line 1"),
    (("testbed", "relay-kill", "--clip", "{text}"), "Invalid data"),
    (("testbed", "relay-kill", "--tree", "oak"), "'oak' is none of cube, graft, hybrid"),
    (("host", "--publish", "news", *NOWHERE), "'news' is not CHANNEL=VALUE"),
    (("host", "--publish", "a/b={clip}", *NOWHERE), "channel name 'a/b'"),
    (("host", "--publish", "news={folder}/gone.mp4", *NOWHERE), "gone.mp4"),
    (("host", "--publish", "news={clip}", "--publish", "news={clip}", *NOWHERE), "given twice"),
    (("host", "--subscribe", "news=soon", *NOWHERE), "'soon' is not a time"),
    (("host", "--subscribe", "news=1s:-", *NOWHERE), "cannot be written to"),
    (("host", "--subscribe", "news=1s:/proc/nowhere/x.ts", *NOWHERE), "cannot write /proc/nowhere/x.ts"),
    (("host", "--uplink", "much", *NOWHERE), "'much' is not a rate"),
    (("host", "--uplink", "0k", *NOWHERE), "outside"),
    (("host", "--reserve", "news", *NOWHERE), "not CHANNEL=N"),
    (("host", "--reserve", "news=9", *NOWHERE), "--fan-out allows 8"),
    (("host", "--reserve", "news=1", "--reserve", "news=2", *NOWHERE), "twice"),
    (("supernode", "--relocation", "always", "--state", "{folder}/r"), "none of breadth-first, published, off"),
    (("subscribe", "news", "--rate", "-1", *NOWHERE), "--rate"),
    (("subscribe", "news", "--loss", "120%", *NOWHERE), "'120%' is not a share"),
    (("lab", "simulate"), "SCENARIO.toml"),
    (("lab", "simulate", "{folder}/gone.toml"), "cannot read scenario"),
    (("lab", "simulate", "{text}"), "text.txt: "),
    (("lab", "simulate", "{unknown}"), "unknown field `colour`"),
    (("lab", "simulate", "{range}"), ">= 2"),
    (("lab", "simulate", "{crowd}"), "one more"),
    (("lab", "simulate", "{elsewhere}"), "not known"),
    (("lab", "simulate", "{nowhere}"), "name of the network is empty"),
    (("lab", "simulate", "{digits}"), "digits"),
    (("lab", "simulate", "{nested}"), "nested too deeply"),
    (("lab", "simulate", "{late}"), "the run ends after 5 s"),
    (("lab", "simulate", "{range}", "--seeds", "x"), "not a list of seeds"),
    (("channels", *NOWHERE), "does not answer"),
    (("channels", "--supernode", "foo.invalid", "--token", "x"), "its host is unknown); check --supernode"),
    (("host", "--supernode", "foo.invalid", "--token", "x"), "the super-node's host 'foo.invalid' is unknown"),
    (("lab",), "VERB"),
    (("lab", "run"), "NAME"),
    (("lab", "run", "nothing"), "there is no experiment 'nothing'"),
    (("lab", "run", "trees", "--network", "{matrix}"), "matrix.txt, line 1"),
    (("lab", "run", "trees", "--network", "{one}", "--json"), "has one host"),
    (("lab", "run", "trees", "--network", "{junk}", "--json"), "not a saved network"),
    (("lab", "run", "trees", "--network", "{small}", "--size", "5", "--json"), "contains 2 hosts"),
    (("lab", "run", "trees", "--network", "{small}", "--group", "2", "--json"), "there are 1 other hosts"),
    (("lab", "run", "trees", "--network", "{small}", "--publishers", "0"), "--publishers"),
    (("lab", "run", "trees", "--network", "gone.csv", "--json"), "no such file"),
    (("lab", "run", "trees", "--network", "transit-stub:0x1x1x1", "--json"), "impossible"),
    (("lab", "run", "trees", "--fan-out", "0"), "--fan-out"),
    (("lab", "run", "trees", "--group", "none"), "--group"),
    (("lab", "run", "trees", "--seeds", "5:1"), "not a list of seeds"),
    (("lab", "run", "trees", "--seeds", "1:99999999999"), "not a list of seeds"),
    (("lab", "run", "trees", "--fan-out", "4096"), "--fan-out"),
    (("lab", "run", "shape", "--shape", "4294967296^1"), "more than 2^22 labels"),
    (("lab", "run", "shape", "--scheduler", "foo", "--json"), "is not the address of a Dask scheduler"),
    (("lab", "run", "shape", "--fan-out", "3"), "--fan-out is not an option of shape"),
    (("lab", "run", "routing", "--shape", "1^4"), "shape 1^4 is impossible"),
    (("lab", "run", "routing", "--shape", "2^1", "--network", "{text}", "--json"), "text.txt, line 2"),
    (
        ("lab", "run", "trees", "--network", "{small}", "--scheduler", "tcp://127.0.0.1:1", "--json"),
        "no Dask scheduler",
    ),
    (("lab", "run", "shape", "--output", "/proc/nowhere"), "cannot write results to /proc/nowhere"),
    (("lab", "plot", "trees", "--results", "{folder}"), "run the experiment first"),
    (("lab", "compare", "{folder}/gone"), "cannot read"),
    (("lab", "pages", "--results", "{folder}/gone"), "cannot read"),
    (("lab", "network", "transit-stub", "--size", "9", "-o", "{folder}/x.txt"), "does not end in .npz"),
    (("lab", "network", "nowhere", "-o", "{folder}/x.npz"), "not known"),
    (("demo", "--network", "a" * 300), "too long"),
    (("subscribe", "news", "-o", f"/tmp/{'a' * 300}.ts", *NOWHERE), "too long"),
    (("lab", "run", "trees", "--scheduler", f"tcp://{'a' * 70}:1", "--json"), "no Dask scheduler"),
    (("host", "--reserve", f"news={'9' * 5000}", *NOWHERE), "characters"),
    (("channels", "--supernode", "127.0.0.1:1", "--token", "@{clip}"), "not text"),
    (("host", "--subscribe", "news=1s", "--loss", "120%", *NOWHERE), "'120%' is not a share"),
    (("host", "--publish", "news={clip}", "--tree", "oak", *NOWHERE), "'oak' is none of cube, graft, hybrid"),
]


@pytest.mark.parametrize(("arguments", "expected"), CASES, ids=[" ".join(c[0])[:40] for c in CASES])
def test_one_clear_line_and_exit_status_2(
    files: dict[str, str], tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    done = cubecast(*(argument.format(**files) for argument in arguments), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert expected in lines[-1]
    assert lines[-1].startswith("cubecast: ")
    assert all("try" in line or "--clip" in line for line in lines[:-1]), lines
    assert not list(tmp_path.iterdir()), "a refused command left something behind"


def test_every_command_prints_its_options() -> None:
    listed = cubecast("--help").stdout
    for command in COMMANDS:
        assert command in listed
        done = cubecast(command, "--help")
        assert done.returncode == 0
        assert f"usage: cubecast {command}" in done.stdout
