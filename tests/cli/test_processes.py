"""The commands as users run them: processes, signals, pipes, kills, garbage."""

import io
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import av
import httpx
import pytest

from cubecast.client.settings import read_token
from cubecast.errors import MediaError
from cubecast.frames import Kind
from cubecast.media.verification import count_decodable
from cubecast.supernode.tls.certificate import CERTIFICATE_FILE
from tests.cli.processes import Overlay, Process, cubecast, overlay, start_media
from tests.conditions import until
from tests.media.clips import encode
from tests.media.test_sources_and_sinks import packets

pytestmark = pytest.mark.system


def in_the_cube(running: Overlay, hosts: int) -> None:
    """Waits until this number of hosts is listed."""

    def look() -> bool:
        done = cubecast("channels", "--json", "--supernode", running.url, "--token", running.token)
        return done.returncode == 0 and len(json.loads(done.stdout)["hosts"]) == hosts

    until(look, 20)


def assert_plays(received: Path, clip: Path) -> None:
    """Every frame of the clip is there and decodes; the sound's priming frame may show or not."""
    there, sent = count_decodable(str(received)), packets(clip)
    assert there[Kind.VIDEO] == sent["video"]
    assert sent["audio"] - 1 <= there[Kind.AUDIO] <= sent["audio"]


def decodable(path: Path) -> dict[Kind, int]:
    """Frames of a file that is still being written; none while it does not decode."""
    with suppress(MediaError):
        return count_decodable(str(path))
    return {}


def last_line(process: Process) -> str:
    return process.text.strip().splitlines()[-1]


def test_publish_and_subscribe_write_a_file_that_plays(tmp_path: Path, clip: Path) -> None:
    with overlay(tmp_path) as running:
        relay = running.join("host", name="r")
        relay.wait_for("joined")
        publisher = running.join("publish", "news", str(clip), "--hold", name="p", stdin=subprocess.PIPE)
        publisher.wait_for("channel news announced")
        outputs = [tmp_path / "out.ts", tmp_path / "out.mp4"]
        subscribers = [
            running.join("subscribe", "news", "--bound", "2s", "-o", str(path), name=f"s{i}")
            for i, path in enumerate(outputs)
        ]
        for subscriber in subscribers:
            subscriber.wait_for("receiving h264")
        listing = cubecast("channels", "--supernode", running.url, "--token", running.token).stdout
        assert "news" in listing
        assert "receiving" in listing
        start_media(publisher)
        assert publisher.popen.wait(20) == 0, publisher.text
        for subscriber, path in zip(subscribers, outputs, strict=True):
            assert subscriber.popen.wait(10) == 0, subscriber.text
            assert ", 0 lost" in subscriber.text
            assert_plays(path, clip)
        assert relay.end(signal.SIGINT) == 0
        assert running.supernode.end() == 0
        assert "Traceback" not in "".join(p.text for p in running.processes)


def test_pipes_work_at_both_ends(tmp_path: Path, clip: Path) -> None:
    with overlay(tmp_path) as running:
        reading, writing = os.pipe()
        publisher = running.join("publish", "news", "-", name="p", stdin=reading)
        os.close(reading)
        ts = io.BytesIO()
        with av.open(str(clip)) as opened, av.open(ts, mode="w", format="mpegts") as out:
            streams = {s.index: out.add_stream_from_template(s) for s in opened.streams}
            for packet in opened.demux():
                if packet.size:
                    packet.stream = streams[packet.stream_index]
                    out.mux(packet)
        data = ts.getvalue()
        os.write(writing, data[: len(data) * 3 // 4])
        publisher.wait_for("channel news announced")
        options = ["--supernode", running.url, "--token", running.token, "--name", "s", "--listen", "127.0.0.1:0"]
        notes = tmp_path / "notes"
        with (tmp_path / "piped.ts").open("wb") as piped, notes.open("wb") as err:
            subscriber = subprocess.Popen(
                [sys.executable, "-m", "cubecast", "subscribe", "news", "--bound", "3s", "-o", "-", *options],
                stdout=piped, stderr=err,
            )  # fmt: skip
            until(lambda: "receiving h264" in notes.read_text(), 20, notes.read_text)
            os.write(writing, data[len(data) * 3 // 4 :])
            os.close(writing)
            assert publisher.popen.wait(20) == 0, publisher.text
            assert subscriber.wait(15) == 0, notes.read_text()
        assert count_decodable(str(tmp_path / "piped.ts"))[Kind.VIDEO] > 0


def test_ctrl_c_ends_a_publisher_whose_pipe_says_nothing(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    publisher = Process(tmp_path, ("publish", "news", "-", "--supernode", "127.0.0.1:1"), {}, reading)
    os.close(reading)
    publisher.wait_for("waiting for media")
    assert publisher.end(signal.SIGINT, seconds=5) == 0
    os.close(writing)
    assert "Traceback" not in publisher.text


def test_a_held_publisher_without_a_terminal_starts_at_once(tmp_path: Path, clip: Path) -> None:
    with overlay(tmp_path) as running:
        publisher = running.join("publish", "news", str(clip), "--hold", name="p")  # standard input is /dev/null
        assert publisher.popen.wait(20) == 0, publisher.text
        assert "finished after" in publisher.text


def test_a_player_that_is_closed_ends_the_subscription_in_order(tmp_path: Path, clip: Path) -> None:
    with overlay(tmp_path) as running:
        publisher = running.join("publish", "news", str(clip), "--loop", name="p")
        publisher.wait_for("announced")
        options = ["--supernode", running.url, "--token", running.token, "--name", "s", "--listen", "127.0.0.1:0"]
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "cubecast", "subscribe", "news", "-o", "-", *options]
        with subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE, text=True) as subscriber:
            os.close(writing)
            assert os.read(reading, 1000)[:1] == b"G"
            os.close(reading)
            _, errors = subscriber.communicate(timeout=20)
        assert subscriber.returncode == 0, errors
        assert "the output was closed" in errors
        assert "ended: " in errors


def test_a_transcoded_source_is_reported_and_arrives(tmp_path: Path) -> None:
    encode(tmp_path / "old.mpg", "mpeg2video", "mp2", seconds=1.0)
    with overlay(tmp_path) as running:
        publisher = running.join("publish", "old", str(tmp_path / "old.mpg"), "--loop", name="p")
        publisher.wait_for("mpeg2video cannot be carried .* transcoding to h264")
        publisher.wait_for("mp2 cannot be carried .* transcoding to aac")
        publisher.wait_for("announced")
        subscriber = running.join("subscribe", "old", "-o", str(tmp_path / "new.ts"), name="s")
        subscriber.wait_for("receiving h264")
        until(lambda: min(decodable(tmp_path / "new.ts").values(), default=0) > 20, 20, lambda: subscriber.text)
        assert subscriber.end(signal.SIGINT) == 0
        assert "ended:" in last_line(subscriber)
        assert min(count_decodable(str(tmp_path / "new.ts")).values()) > 20


def test_refusals_are_one_line_and_disturb_nobody(tmp_path: Path, clip: Path) -> None:
    with overlay(tmp_path) as running:
        publisher = running.join("publish", "news", str(clip), "--loop", name="p")
        publisher.wait_for("announced")
        watching = running.join("subscribe", "news", "--bound", "3s", "-o", str(tmp_path / "w.ts"), name="w")
        watching.wait_for("receiving")
        options = ("--supernode", running.url, "--token", running.token, "--listen", "127.0.0.1:0")
        older = tmp_path / "older.ts"
        older.write_bytes(b"kept")
        for arguments, expected in (
            (
                ("subscribe", "nothing", "-o", str(tmp_path / "new.ts"), *options),
                "channel 'nothing' is not announced; announced now: news",
            ),
            (("subscribe", "news", "--bound", "0.01ms", "-o", str(older), *options), "ask with --bound"),
            (("subscribe", "news", *options[:2], "--token", "wrong"), "what was given as token is none"),
            (("publish", "news", str(clip), *options), "already published by host p"),
            (("host", *options, "--name", "p"), "the name p is taken"),
            (("supernode", "--listen", running.url.removeprefix("https://"), "--state", str(tmp_path / "x")), "in use"),
        ):
            done = cubecast(*arguments)
            assert done.returncode == 2, done.stderr
            assert expected in done.stderr.strip().splitlines()[-1]
            assert "Traceback" not in done.stderr
        assert older.read_bytes() == b"kept"
        assert not (tmp_path / "new.ts").exists()
        assert watching.end(signal.SIGINT) == 0
        assert "ended:" in last_line(watching)


def test_a_token_of_less_allows_less(tmp_path: Path, clip: Path) -> None:
    with overlay(tmp_path) as running:
        made = cubecast("token", "--state", str(tmp_path / "sn"), "--subscribe", "news")
        assert made.returncode == 0
        options = ("--supernode", running.url, "--token", made.stdout.strip(), "--listen", "127.0.0.1:0")
        done = cubecast("publish", "news", str(clip), *options)
        assert done.returncode == 2
        assert "does not allow publishing" in done.stderr
        done = cubecast("subscribe", "other", *options)
        assert done.returncode == 2
        assert "does not allow subscribing" in done.stderr


def test_kill_9_of_a_relay_is_repaired_and_of_the_publisher_reported(tmp_path: Path, clip: Path) -> None:
    with overlay(tmp_path) as running:
        media = ("--publish", f"news={clip}", "--loop", "--tree", "cube", "--json")
        publisher = running.join("host", *media, name="p", label="00")
        publisher.wait_for("announced")
        relay = running.join("host", name="r", label="01")
        closed = running.join("host", "--fan-out", "0", name="x", label="10")
        for host in (relay, closed):
            host.wait_for("joined")
        in_the_cube(running, 3)
        output = tmp_path / "n.ts"
        terms = ("--bound", "3s", "--fan-out", "0", "-o", str(output))
        neighbour = running.join("subscribe", "news", *terms, name="n", label="11")
        neighbour.wait_for("receiving")
        relay.wait_for("carrying news to 1")
        publisher.wait_for(r'"links": \{[^}]*"n"')  # the relay has named its parent to n, which keeps a link to it
        relay.popen.kill()
        neighbour.wait_for(r"news now comes from p instead of r \(no heartbeat and no media\)")
        size = output.stat().st_size
        until(lambda: output.stat().st_size > size + 20_000, 5)
        publisher.popen.kill()
        assert neighbour.popen.wait(15) == 1, neighbour.text
        assert "the stream broke at host p" in last_line(neighbour)


def test_the_super_node_survives_kill_9_and_streams_go_on_without_it(tmp_path: Path, clip: Path) -> None:
    with overlay(tmp_path) as running:
        publisher = running.join("publish", "news", str(clip), "--loop", name="p")
        publisher.wait_for("announced")
        subscriber = running.join("subscribe", "news", "--bound", "3s", "-o", str(tmp_path / "s.ts"), name="s")
        subscriber.wait_for("receiving")
        running.supernode.popen.kill()
        running.supernode.popen.wait()
        subscriber.wait_for("running streams go on")
        size = (tmp_path / "s.ts").stat().st_size
        until(lambda: (tmp_path / "s.ts").stat().st_size > size + 20_000, 5)
        again = running.start(
            "supernode", "--listen", running.url.removeprefix("https://"), "--state", str(tmp_path / "sn")
        )
        again.wait_for("cube 2\\^2")
        in_the_cube(running, 2)
        late = running.join("subscribe", "news", "--bound", "3s", name="late")
        late.wait_for("receiving")
        assert subscriber.popen.poll() is None


def test_garbage_on_every_port_disturbs_nothing(tmp_path: Path, clip: Path) -> None:
    with overlay(tmp_path) as running:
        publisher = running.join("publish", "news", str(clip), "--loop", name="p")
        port = int(publisher.wait_for(r"reachable at 127\.0\.0\.1:(\d+)")[1])
        publisher.wait_for("announced")
        subscriber = running.join("subscribe", "news", "--bound", "3s", "-o", str(tmp_path / "s.ts"), name="s")
        subscriber.wait_for("receiving")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for n in range(500):
                udp.sendto(os.urandom(1 + n * 2), ("127.0.0.1", port))
        host, _, tcp_port = running.url.removeprefix("https://").rpartition(":")
        for n in range(20):
            with socket.create_connection((host, int(tcp_port))) as tcp:
                tcp.sendall(os.urandom(50 * n) + b"\r\n\r\n")
        size = (tmp_path / "s.ts").stat().st_size
        until(lambda: (tmp_path / "s.ts").stat().st_size > size + 20_000, 5)
        assert subscriber.end(signal.SIGINT) == 0
        assert all("Traceback" not in p.text for p in running.processes)


def test_the_demo_keeps_its_contract(tmp_path: Path, clip: Path) -> None:
    done = cubecast(
        "demo",
        "--no-kill",
        "--hosts",
        "6",
        "--subscribers",
        "3",
        "--clip",
        str(clip),
        "--bound",
        "900ms",
        "--json",
        "-o",
        str(tmp_path / "kept.ts"),
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["policy"] == "greedy"
    assert report["network"] == "transit-stub"
    assert report["hosts"] == 6
    assert report["shape"]["radix"] ** report["shape"]["dimensions"] >= 6
    assert report["success_ratio"] == 1.0
    assert report["lateness_mean"] == 0.0
    assert report["rad"] >= 0.9
    assert report["relay_copies_in_python"] == 0
    assert report["stress"]["traversals"] >= report["stress"]["max"] >= report["stress"]["mean"] >= 1
    published = sum(packets(clip).values())
    assert len(report["subscribers"]) == 3
    for row in report["subscribers"]:
        assert row["admitted"]
        assert row["served"]
        assert row["frames"] == {
            "published": published,
            "received": published,
            "lost": 0,
            "duplicated": 0,
        }
        assert len(row["path"]) >= 2
        assert row["promised_ms"] <= row["bound_ms"]
        assert 0 < row["delay_ms"]["p50"] <= row["delay_ms"]["p99"]
        assert row["delay_ms"]["p50"] >= row["path_ms"], "no frame is faster than the emulated path"
    assert_plays(tmp_path / "kept.ts", clip)


def processes_named(needle: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if needle in line and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_is_stopped_leaves_no_process_behind(tmp_path: Path, clip: Path, number: signal.Signals) -> None:
    mark = str(tmp_path / f"left-{os.getpid()}-{number}.mp4")
    Path(mark).symlink_to(clip)
    demo = Process(tmp_path, ("demo", "--hosts", "4", "--clip", mark), {"TMPDIR": str(tmp_path)}, subprocess.DEVNULL)
    until(lambda: len(processes_named(str(tmp_path))) >= 5, 20, lambda: demo.text)
    status = demo.end(number, seconds=15)
    assert status == (-9 if number is signal.SIGKILL else 130), demo.text
    until(lambda: not processes_named(str(tmp_path)), 5, lambda: str(processes_named(str(tmp_path))))
    assert "Traceback" not in demo.text


def test_hosts_publish_and_subscribe_at_once_and_the_ledger_is_seen_everywhere(tmp_path: Path, clip: Path) -> None:
    with overlay(tmp_path) as running:
        hosts = {}
        for mine, other in (("east", "west"), ("west", "east")):
            channels = ("--publish", f"{mine}={clip}", "--loop", "--subscribe", f"{other}=2s:{tmp_path / other}.ts")
            hosts[mine] = running.join("host", *channels, "--subscribe", f"{mine}=0.01ms", name=mine)
            hosts[mine].wait_for(f"channel {mine} announced")
        hosts["east"].wait_for("'west' is not announced yet; waiting for it")
        late = running.join("host", "--publish", f"third={clip}", "--subscribe", "west=2s", name="third")
        late.wait_for("receiving h264.* of west")
        for mine, other in (("east", "west"), ("west", "east")):
            hosts[mine].wait_for(f"receiving h264.* of {other}")
        options = ("--supernode", running.url, "--token", running.token)

        def kept_s() -> int:
            lines = json.loads(cubecast("channels", "--json", *options).stdout)["subscriptions"]
            seen = (each for each in lines if (each["channel"], each["subscriber"]) == ("east", "west"))
            return sum(each["compliance"]["kept_s"] for each in seen)

        until(lambda: kept_s() >= 1, 30, lambda: hosts["west"].text)
        seconds = cubecast("channels", *options).stdout
        assert "violated" in seconds
        trusted = ssl.create_default_context(cafile=tmp_path / "sn" / CERTIFICATE_FILE)
        trusted.check_hostname = False
        metrics = httpx.get(
            f"{running.url}/metrics",
            headers={"Authorization": f"Bearer {read_token(running.token)}"},
            verify=trusted,
        ).text
        assert 'cubecast_subscription_contract_seconds{channel="east",subscriber="west",verdict="kept"}' in metrics
        nameless = httpx.get(f"{running.url}/metrics", verify=trusted).text
        assert 'cubecast_contract_seconds{verdict="kept"}' in nameless
        assert "east" not in nameless
        refused = cubecast("subscribe", "west", "--rate", "50M", "--listen", "127.0.0.1:0", *options)
        assert refused.returncode == 2
        assert "no path for 50000 kbit/s" in refused.stderr
        granted = re.search(r"ask with --rate (\d+)", refused.stderr)
        assert granted, refused.stderr
        assert 100_000 < int(granted[1]) < 10_000_000, "bits a second of this clip"
        rate = str(int(0.8 * int(granted[1])))  # what a clip takes changes from second to second
        running.join("subscribe", "west", "--rate", rate, name="granted").wait_for("receiving h264.* of west")
        assert hosts["west"].end(signal.SIGINT) == 0
        assert re.search(r"east ended: .* contract kept in \d+ s", hosts["west"].text), hosts["west"].text
        assert (tmp_path / "east.ts").stat().st_size > 100_000
