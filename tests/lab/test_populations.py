"""Random inputs of experiments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.errors import UsageError
from cubecast.lab.populations import group_of, publishers_of, seated, some_pairs
from cubecast.overlay.cube import Cube, label_count
from tests.strategies import cubes


@given(cubes(256), st.data())
def test_every_label_has_a_host_and_every_host_its_seat(shape: Cube, data: st.DataObject) -> None:
    hosts = data.draw(st.integers(1, label_count(shape)))
    host, seat = seated(shape, hosts, np.random.default_rng(1))
    assert set(host) == set(range(hosts))
    assert [host[label] for label in seat] == list(range(hosts))


@given(st.integers(2, 50), st.data())
def test_groups_are_different_hosts_and_all_means_all(hosts: int, data: st.DataObject) -> None:
    wanted = data.draw(st.integers(0, hosts - 1))
    publisher = data.draw(st.integers(0, hosts - 1))
    group = group_of(hosts, publisher, wanted, np.random.default_rng(1))
    assert group[0] == publisher
    assert len(set(group)) == len(group) == (wanted + 1 if wanted else hosts)
    with pytest.raises(UsageError, match="--group"):
        group_of(hosts, publisher, hosts, np.random.default_rng(1))


@given(st.integers(1, 50), st.data())
def test_publishers_are_different_hosts(hosts: int, data: st.DataObject) -> None:
    wanted = data.draw(st.integers(1, 60))
    assert len(set(publishers_of(hosts, wanted, np.random.default_rng(1)))) == min(wanted, hosts)


@given(st.integers(2, 50), st.integers(1, 50))
def test_pairs_are_of_different_labels(labels: int, count: int) -> None:
    sources, targets = some_pairs(labels, count, np.random.default_rng(1))
    assert len(sources) == len(targets) == count
    assert (sources != targets).all()
    assert 0 <= min(sources.min(), targets.min()) <= max(sources.max(), targets.max()) < labels


def test_a_shape_with_too_few_labels_is_refused() -> None:
    with pytest.raises(UsageError, match="8 labels for 9 hosts"):
        seated(Cube(2, 3), 9, np.random.default_rng(1))
