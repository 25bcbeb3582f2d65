"""What a run with a malicious host reports: who is behind it, and when it was left."""

from types import SimpleNamespace
from typing import cast

import pytest

from cubecast.cli.experiments.testbed import run
from cubecast.emulator import testbed
from cubecast.emulator.scenarios.hostile import ATTACKS, RELAYS, _behind, _left_after_s
from cubecast.errors import UsageError
from cubecast.hostile.catalogue import ATTACKS as DIRECT
from cubecast.hostile.catalogue import RELAYS as TURNING
from cubecast.hostile.relay import Mischief


def test_the_scenario_knows_every_attack_of_the_library() -> None:
    assert set(RELAYS) == TURNING.keys() - {Mischief.NONE.value}
    assert set(ATTACKS) == DIRECT.keys() | set(RELAYS)


def test_whoever_gets_the_channel_through_a_host_is_behind_it() -> None:
    parents = {"mallory": "p", "a": "mallory", "b": "a", "c": "b", "d": "p", "e": "d"}
    assert _behind("mallory", parents) == {"a", "b", "c"}
    assert _behind("mallory", {"d": "p"}) == set()
    assert _behind("a", {"a": "b", "b": "a"}) == {"b"}, "while parents change there may be a circle"


def test_a_host_is_left_when_its_child_changes_from_it_after_the_attack_began() -> None:
    def host(name: str, *changes: tuple[float, str]) -> SimpleNamespace:
        return SimpleNamespace(name=name, changes=[{"at_s": at_s, "before": before} for at_s, before in changes])

    hosts = {
        0: host("a", (90.0, "mallory"), (101.5, "mallory"), (103.0, "mallory")),
        1: host("b", (101.0, "p")),
        2: host("c", (102.0, "mallory")),
    }
    bed = cast(testbed.Testbed, SimpleNamespace(hosts=hosts))
    assert _left_after_s(bed, {"a", "b"}, "mallory", 100.0) == {"a": 1.5, "b": None}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["hostile", "--attack", "nothing"], "there is no attack 'nothing'; take all or one of take-over"),
        (["relay-kill", "--attack", "read"], "relay-kill has no attacks; leave --attack out"),
    ],
)
def test_an_attack_that_does_not_exist_is_refused(arguments: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        run(arguments)
