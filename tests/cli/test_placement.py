"""`cubecast process --at`: derived channels made on other hosts, as the super-node decides."""

import json
import re
import signal
from pathlib import Path

import pytest

from cubecast.frames import Kind
from cubecast.media.verification import count_decodable
from cubecast.sandbox.abi import Manifest
from tests.cli.processes import Overlay, Process, overlay
from tests.cli.test_process import held_publisher, publish_all
from tests.media.test_sources_and_sinks import packets
from tests.sandbox.modules import module, wat

pytestmark = pytest.mark.system


def ask(running: Overlay, *arguments: str) -> Process:
    """`cubecast process` for another host: it joins nothing itself."""
    return running.start("process", *arguments, "--supernode", running.url, "--token", running.token)


def receive(running: Overlay, channel: str, path: Path) -> Process:
    subscriber = running.join("subscribe", channel, "--bound", "3s", "-o", str(path), name=f"s-{path.stem}")
    subscriber.wait_for("receiving h264")
    return subscriber


def test_two_that_want_the_same_share_an_instance_beside_the_publisher(tmp_path: Path, clip: Path) -> None:
    with overlay(tmp_path) as running:
        publisher = held_publisher(running, clip, "--process", "1")
        small = ask(running, "news", "small", "--extension", "downscale", "--at", "publisher", "--json")
        small.wait_for('"announced".*"host": ?"p"')
        little = ask(running, "news", "little", "--extension", "downscale", "--at", "auto", "--json")
        little.wait_for('"announced".*"host": ?"p"')
        other = ask(running, "news", "thinner", "--extension", "thin", "--at", "p")
        assert other.popen.wait(40) == 2
        assert re.search("host p runs as many extensions as it is willing to; see --process", other.text)
        paths = [tmp_path / f"{channel}.ts" for channel in ("small", "little", "news")]
        receiving = [receive(running, path.stem, path) for path in paths]
        publish_all(publisher)
        for subscriber, path in zip(receiving, paths, strict=True):
            assert subscriber.popen.wait(20) == 0, subscriber.text
            assert ", 0 lost" in subscriber.text
            assert count_decodable(str(path))[Kind.VIDEO] == packets(clip)["video"], path
        for owner in (small, little):
            assert owner.popen.wait(20) == 0, owner.text
        figures = json.loads(re.findall(r"\{.*\"finished\".*\}", small.text)[-1])
        assert figures["frames_in"] == packets(clip)["video"]
        assert "Traceback" not in "".join(p.text for p in running.processes)


def test_a_job_follows_its_owner_and_survives_hosts_and_super_nodes(tmp_path: Path, clip: Path) -> None:
    with overlay(tmp_path) as running:
        publisher = running.join("publish", "news", str(clip), "--loop", name="p")
        publisher.wait_for("channel news announced")
        hosts = {name: running.join("host", "--process", "1", name=name) for name in ("a", "b")}
        for host in hosts.values():
            host.wait_for("joined")
        file = tmp_path / "double.wasm"
        file.write_bytes(module(wat(), Manifest(name="double", version="1")))
        owner = ask(running, "news", "twice", "--extension", str(file), "--at", "auto", "--json")
        first = owner.wait_for(r'"announced".*"host": ?"(a|b)"')[1]

        file.write_bytes(module(wat(), Manifest(name="double", version="2")))
        owner.popen.send_signal(signal.SIGHUP)
        owner.wait_for("takes over")

        running.restart_supernode()
        subscriber = running.join("subscribe", "twice", "--bound", "3s", "--json", name="s")
        subscriber.wait_for('"receiving"')
        assert owner.popen.poll() is None, owner.text

        hosts[first].popen.send_signal(signal.SIGKILL)
        second = ({"a", "b"} - {first}).pop()
        owner.wait_for(rf'"announced".*"host": ?"{second}"', 40)
        again = running.join("subscribe", "twice", "--bound", "3s", "--json", name="s2")
        again.wait_for('"receiving"')

        owner.end(signal.SIGKILL)
        again.wait_for('"summary"|ended', 40)
        assert hosts[second].popen.poll() is None


BAD = [
    (("news", "x", "--extension", "thin", "--at", "auto"), "no host processes for others; start one with --process N"),
    (("news", "x1", "--extension", "thin", "--at", "publisher"), "host p, which publishes news, does not process"),
    (("news", "x2", "--extension", "thin", "--at", "nobody"), "host nobody has not joined"),
    (("nothing", "x3", "--extension", "thin", "--at", "auto"), "channel 'nothing' is not announced"),
    (("news", "x4", "--extension", "thin", "--at", "../x"), "host name"),
    (("news", "x5", "--extension", "x.py", "--at", "auto"), "can run on this host only"),
    (("news", "x6", "--extension", "none.wasm", "--at", "auto"), "cannot be read"),
    (("news", "news", "--extension", "thin", "--at", "auto"), "not made from itself"),
]


def test_what_cannot_be_placed_gets_one_line(tmp_path: Path, clip: Path) -> None:
    with overlay(tmp_path) as running:
        held_publisher(running, clip)
        asked = [(ask(running, *arguments), line) for arguments, line in BAD]
        for refused, line in asked:
            assert refused.popen.wait(40) == 2, refused.text
            assert line in refused.text
            assert len(refused.text.strip().splitlines()) == 1, refused.text
        running.join("host", "--process", "1", name="q").wait_for("joined")
        wrong = ask(running, "news", "x", "--extension", "thin", "--config", "nonsense=1", "--at", "q")
        assert wrong.popen.wait(40) == 2, wrong.text
        assert "there is no setting 'nonsense'" in wrong.text
        taken = ask(running, "news", "y", "--extension", "gain", "--at", "q")
        taken.wait_for("channel y is made from news at q")
        second = ask(running, "news", "y", "--extension", "thin", "--at", "q")
        assert second.popen.wait(40) == 2, second.text
        assert "channel 'y' is derived by another job; choose another name" in second.text
        assert taken.popen.poll() is None
        watching = running.join("subscribe", "y", "--bound", "3s", name="w")
        watching.wait_for("receiving")
        assert taken.end() == 0
        again = ask(running, "news", "y", "--extension", "thin", "--at", "q")  # its name is free, and its host
        again.wait_for("channel y is made from news at q", 30)
