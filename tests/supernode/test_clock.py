"""The super-node's time never steps back, neither while it runs nor over a restart."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.supernode import clock as module
from cubecast.supernode.clock import MARK_S, SupernodeClock
from cubecast.supernode.server import serving
from tests.supernode.node import config, node, request


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_no_step_of_the_machines_clock_shows_and_no_restart_goes_back(first_s: float, second_s: float) -> None:
    machine = SimpleNamespace(time=lambda: 1e9, monotonic=time.monotonic)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time", machine)
        clock = SupernodeClock()
        before_s = clock.now_s()
        machine.time = lambda: 1e9 + first_s
        assert before_s <= clock.now_s() < before_s + 60
        stored_s = clock.now_s()
        machine.time = lambda: 1e9 + second_s
        assert SupernodeClock(stored_s).now_s() >= stored_s + MARK_S


async def test_a_super_node_that_starts_with_its_clock_set_back_goes_on_from_the_stored_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MARK_S", 0.0)
    monkeypatch.setattr("cubecast.supernode.runner.MARK_S", 0.0)
    async with node(tmp_path) as running:
        client = running.client()
        placed = (await client.join(request(client, "p"))).placement
        running.service._runner.keep_time()
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: time.time() - 3600.0, monotonic=time.monotonic))
    async with serving(config(tmp_path, None)) as service:
        assert service.engine.placement(placed.record.host).version > placed.version
