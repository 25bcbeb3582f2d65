"""Properties of growth: the cube changes its shape while streams run, and no stream pauses."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from cubecast.engine.directory.config import DIRECTORY_DEFAULTS
from cubecast.engine.host import effects as fx
from cubecast.engine.protocol.records import Tree
from cubecast.overlay.cube import Cube
from cubecast.simulation.invariants import broken_labels
from cubecast.types import HostId
from tests.engine.host.test_subscribe import NO_BOUND_MS, WARM_S
from tests.engine.in_memory import CHANNEL, Overlay, random_delays

STEP_S = 0.05


def everyone_receives_for(overlay: Overlay, seconds: float) -> None:
    for _ in range(round(seconds / STEP_S)):
        overlay.run(STEP_S)
        assert all(overlay.flows(h, CHANNEL) for h in overlay.living() if overlay.engines[h].branches())
        assert not broken_labels(overlay.directory)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([Cube(2, 2), Cube(3, 1), Cube(2, 4)]), st.sampled_from(list(Tree)))
@example(2004, Cube(2, 4), Tree.HYBRID)  # the feeding parent was asked to be the standby, refused, and was released
def test_one_host_more_than_there_are_labels_and_one_less_again(seed: int, cube: Cube, tree: Tree) -> None:
    hosts = cube.radix**cube.dimensions
    delays = random_delays(hosts + 1, seed)
    overlay = Overlay(delays[:hosts, :hosts], cube, seed=seed)
    overlay.delay_ms = delays
    overlay.run(WARM_S)
    overlay.publish(0, tree=tree)
    for index in range(1, hosts):
        assert isinstance(overlay.subscribe(index, NO_BOUND_MS), fx.Admitted)
    overlay.run(1.0)
    newcomer = HostId("late")
    overlay.join(newcomer, hosts)
    overlay.names.append(newcomer)
    assert overlay.directory.epoch == 1
    everyone_receives_for(overlay, 3.0)
    assert isinstance(overlay.subscribe(hosts, NO_BOUND_MS), fx.Admitted)
    overlay.run(1.0)
    everyone_receives_for(overlay, 3.0)
    overlay.leave(newcomer)
    everyone_receives_for(overlay, DIRECTORY_DEFAULTS.shape.shrink_after_s + 10.0)
    assert overlay.directory.epoch == 2
    assert overlay.directory.cube == cube
    assert not overlay.ended()
