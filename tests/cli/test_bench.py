"""`cubecast bench`: its names and options."""

import re

import pytest

from cubecast.cli.commands.bench import BENCHES, run


def test_every_benchmark_has_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(BENCHES) == ["relay", "lab", "extensions", "ipc"]
    with pytest.raises(SystemExit) as ended:
        run(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    for name in BENCHES:
        assert re.search(rf"^ +{name}\b", printed, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments",
    [
        ["relay", "--rounds", "0"],
        ["relay", "--seconds", "0"],
        ["relay", "--seconds", "many"],
        ["ipc", "--rounds", "1"],
        ["memory"],
    ],
)
def test_a_wrong_option_is_exit_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
