"""`cubecast process`: a channel made from another, on real hosts."""

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path

import av
import pytest

from cubecast.frames import Kind
from cubecast.media.synthesis import synthesise
from cubecast.media.verification import count_decodable
from cubecast.sandbox.abi import Manifest
from cubecast.sandbox.loading import SHIPPED
from tests.cli.processes import Overlay, Process, cubecast, overlay, size, start_media
from tests.conditions import until
from tests.media.test_sources_and_sinks import packets
from tests.sandbox.modules import module, wat

pytestmark = pytest.mark.system


def held_publisher(running: Overlay, clip: Path, *options: str) -> Process:
    publisher = running.join("publish", "news", str(clip), "--hold", *options, name="p", stdin=subprocess.PIPE)
    publisher.wait_for("channel news announced")
    return publisher


def publish_all(publisher: Process) -> None:
    """Starts a held publisher, and waits until it has sent everything."""
    start_media(publisher)
    assert publisher.popen.wait(30) == 0, publisher.text


def test_a_derived_channel_is_subscribed_to_like_any_other(tmp_path: Path, clip: Path) -> None:
    with overlay(tmp_path) as running:
        publisher = held_publisher(running, clip)
        maker = running.join(
            "process", "news", "small", "--extension", "downscale", "--bound", "2s", "--json", name="m"
        )
        maker.wait_for('"announced"')
        small, plain = tmp_path / "small.mp4", tmp_path / "plain.ts"
        receiving = [
            running.join("subscribe", channel, "--bound", "2s", "-o", str(path), name=f"s-{channel}")
            for channel, path in (("small", small), ("news", plain))
        ]
        for subscriber in receiving:
            subscriber.wait_for("receiving h264")
        publish_all(publisher)
        for subscriber in receiving:
            assert subscriber.popen.wait(20) == 0, subscriber.text
            assert ", 0 lost" in subscriber.text
        assert maker.popen.wait(20) == 0, maker.text
        figures = json.loads(re.findall(r"\{.*\"finished\".*\}", maker.text)[-1])
        assert figures["frames_in"] == figures["frames_out"] == packets(clip)["video"]
        assert (figures["failures"], figures["overrun"], figures["dropped"]) == (0, 0, 0)
        with av.open(str(small)) as container:
            pictures = list(container.decode(video=0))
        assert len(pictures) == packets(clip)["video"]
        with av.open(str(clip)) as container:
            assert pictures[0].width == container.streams.video[0].width // 4 * 2
        assert count_decodable(str(plain))[Kind.VIDEO] == packets(clip)["video"]
        assert "Traceback" not in "".join(p.text for p in running.processes)


def test_extensions_make_a_chain(tmp_path: Path, clip: Path) -> None:
    with overlay(tmp_path) as running:
        publisher = held_publisher(running, clip)
        first = running.join("process", "news", "soft", "--extension", "gain", "--config", "db=-20", name="m1")
        first.wait_for("channel soft is made from news")
        second = running.join("process", "soft", "meter", "--extension", "loudness", "--bound", "3s", name="m2")
        second.wait_for("channel meter is made from soft")
        subscriber = running.join("subscribe", "meter", "--bound", "4s", name="s")
        subscriber.wait_for("receiving h264")
        publish_all(publisher)
        assert subscriber.popen.wait(20) == 0, subscriber.text
        assert ", 0 lost" in subscriber.text
        for maker in (first, second):
            assert maker.popen.wait(20) == 0, maker.text
            assert "0 failure(s)" in maker.text


@pytest.mark.parametrize("name", ["shed", "watermark"])
def test_a_new_version_takes_over_without_losing_a_frame(tmp_path: Path, name: str) -> None:
    clip, file = tmp_path / "long.mp4", tmp_path / "extension.wasm"
    synthesise(clip, 5.0)
    shutil.copyfile(str(SHIPPED.joinpath(name, f"{name}.wasm")), file)
    with overlay(tmp_path) as running:
        publisher = held_publisher(running, clip)
        maker = running.join("process", "news", "made", "--extension", str(file), "--bound", "2s", "--json", name="m")
        maker.wait_for('"announced"')
        subscriber = running.join("subscribe", "made", "--bound", "2s", "-o", str(tmp_path / "made.ts"), name="s")
        subscriber.wait_for("receiving h264")
        start_media(publisher)
        made, part = tmp_path / "made.ts", clip.stat().st_size // 5
        until(lambda: size(made) > part, 20, lambda: maker.text)
        maker.popen.send_signal(signal.SIGHUP)
        maker.wait_for("takes over")
        upgraded = size(made)
        until(lambda: size(made) > upgraded + part, 20, lambda: maker.text)
        file.write_bytes(b"no module")
        maker.popen.send_signal(signal.SIGHUP)
        maker.wait_for("the previous version continues")
        assert subscriber.popen.wait(30) == 0, subscriber.text
        assert ", 0 lost" in subscriber.text
        assert maker.popen.wait(20) == 0, maker.text
        figures = json.loads(re.findall(r"\{.*\"finished\".*\}", maker.text)[-1])
        assert (figures["upgrades"], figures["overrun"], figures["failures"]) == (1, 0, 0)
        assert figures["frames_in"] == figures["frames_out"] == packets(clip)["video"]
        assert count_decodable(str(tmp_path / "made.ts"))[Kind.VIDEO] == packets(clip)["video"]


def test_an_extension_gets_events_of_subscribers_while_others_are_served(tmp_path: Path, clip: Path) -> None:
    file = tmp_path / "startled.wasm"
    manifest = Manifest(name="startled", memory_mib=4, deadline_ms=5, events=("subscriber_joined",))
    file.write_bytes(module(wat(event="unreachable"), manifest))
    with overlay(tmp_path) as running:
        publisher = held_publisher(running, clip)
        maker = running.join("process", "news", "made", "--extension", str(file), "--bound", "2s", "--json", name="m")
        maker.wait_for('"announced"')
        subscriber = running.join("subscribe", "made", "--bound", "2s", name="s")
        subscriber.wait_for("receiving h264")
        publish_all(publisher)
        assert subscriber.popen.wait(20) == 0, subscriber.text
        assert ", 0 lost" in subscriber.text
        assert maker.popen.wait(20) == 0, maker.text
        figures = json.loads(re.findall(r"\{.*\"finished\".*\}", maker.text)[-1])
        assert figures["failures"] >= 1
        assert "on_event" in figures["last_failure"]
        assert figures["frames_in"] == figures["frames_out"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("news", "news", "--extension", "thin"), "a channel is not made from itself"),
        (("news", "half", "--extension", "nope"), "shipped extensions are"),
        (("news", "half"), "--extension"),
        (("news", "ha lf", "--extension", "thin"), "channel name"),
        (("news", "half", "--extension", "thin", "--config", "share"), "is not K=V"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments: tuple[str, ...], said: str) -> None:
    done = cubecast("process", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
