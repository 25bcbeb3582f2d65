"""Descriptors: the limit of open files is raised, and connections follow from what it is."""

import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cubecast.descriptors import DESCRIPTORS_WANTED, raise_descriptor_limit
from cubecast.supernode import server
from cubecast.supernode.connections import (
    CONNECTIONS_MAX,
    connections_for,
)


@pytest.fixture
def descriptor_limit() -> Iterator[Callable[[int], None]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda soft: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_of_descriptors_becomes_the_hard_limit(descriptor_limit: Callable[[int], None]) -> None:
    descriptor_limit(512)
    notes: list[str] = []
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else hard
    assert raise_descriptor_limit(notes.append) == wanted
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == wanted
    assert notes == []


async def test_a_limit_that_cannot_be_raised_is_one_line_and_lowers_the_number_of_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, descriptor_limit: Callable[[int], None]
) -> None:
    descriptor_limit(512)

    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr("cubecast.descriptors.resource.setrlimit", refuse)
    notes: list[str] = []
    async with server.serving(server.SupernodeConfig("127.0.0.1", 0, tmp_path, None, 8, 1), notes.append) as service:
        assert service.connections.connections_max == connections_for(512) < CONNECTIONS_MAX
    monkeypatch.undo()
    (line,) = notes
    assert "ulimit -n" in line
    assert "stays at 512" in line
