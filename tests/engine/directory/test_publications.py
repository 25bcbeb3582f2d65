"""The numbers of publications: each is higher than all before it, and a publication keeps its own."""

from hypothesis import given
from hypothesis import strategies as st

from cubecast.engine.directory import events as d
from cubecast.types import HostId
from tests.engine.directory.test_directory import CLIP, engine, joined


@given(
    st.lists(st.tuples(st.sampled_from(["announce", "withdraw", "restart"]), st.sampled_from("ab"), st.integers(0, 3)))
)
def test_a_publication_has_a_higher_number_than_all_before_it_and_its_publishers_key(
    steps: list[tuple[str, str, int]],
) -> None:
    directory, now, highest = engine(), 1000.0, 0
    for host in ("a", "b"):
        directory.handle(joined(host), now)
    for step, name, later_ms in steps:
        host, now = HostId(name), now + later_ms / 1000
        known = directory.channels.get(CLIP)
        if step == "withdraw":
            directory.handle(d.ChannelWithdrawn(host, CLIP), now)
        elif step == "restart":
            again = engine()
            stored = [m.record for m in directory.members.values()], list(directory.channels.values())
            again.restore((directory.cube, directory.epoch), *stored, now)
            directory, now = again, now + 0.001  # a restart takes longer than that
        elif known is None or known.publisher == host:
            directory.handle(d.ChannelAnnounced(host, CLIP), now)
            record = directory.channels[CLIP]
            assert record.publication > highest
            assert record.key == f"key of {host}"
            highest = record.publication


def test_a_publication_that_is_announced_again_keeps_its_number() -> None:
    """The super-node may have lost it meanwhile; its frames are signed with the number that it had."""
    directory = engine()
    directory.handle(joined("a"), 1.0)
    directory.handle(d.ChannelAnnounced(HostId("a"), CLIP), 1.0)
    before = directory.channels[CLIP]
    again = d.ChannelAnnounced(HostId("a"), CLIP, publication=before.publication)
    directory.handle(again, 2.0)
    assert directory.channels[CLIP] == before
    directory.handle(d.ChannelWithdrawn(HostId("a"), CLIP), 3.0)
    directory.handle(again, 4.0)
    assert directory.channels[CLIP] == before


def test_a_number_that_the_directory_cannot_have_given_is_replaced() -> None:
    directory = engine()
    directory.handle(joined("a"), 1.0)
    for claimed in (10**15, -1):
        directory.handle(d.ChannelAnnounced(HostId("a"), CLIP, publication=claimed), 1.0)
        assert 0 < directory.channels[CLIP].publication < 10_000
