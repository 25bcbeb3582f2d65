"""M-regions: the slide's loop, and what it asks for."""

from fractions import Fraction
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.errors import UsageError
from cubecast.overlay.cube import Cube, label_count
from cubecast.overlay.region import exact_region, links_per_host, live_region, published_region


def mean(shape: Cube) -> Fraction:
    return Fraction(shape.dimensions * (shape.radix**2 // 4), shape.radix)


def brute_force(hosts: int) -> Cube:
    """Every shape that could matter: any n up to log2 of the hosts, any k up to the hosts."""
    dimensions_max = max(1, (hosts - 1).bit_length())
    shapes = [Cube(k, n) for n in range(1, dimensions_max + 2) for k in range(2, max(3, hosts + 1)) if k**n >= hosts]
    return min(shapes, key=lambda c: (mean(c), -label_count(c)))


def test_the_exact_form_equals_brute_force() -> None:
    for hosts in range(1, 400):
        assert exact_region(hosts) == brute_force(hosts), hosts


@given(st.integers(400, 1_000_000))
def test_no_shape_with_fewer_hops_covers_the_hosts(hosts: int) -> None:
    found = exact_region(hosts)
    assert label_count(found) >= hosts
    for n in range(1, hosts.bit_length() + 1):
        k = 2
        while k**n < hosts and mean(Cube(k, n)) <= mean(found):
            k += 1
        if k**n >= hosts:
            assert (mean(found), -label_count(found)) <= (mean(Cube(k, n)), -(k**n))


def test_the_published_form_walks_the_slides_axis() -> None:
    regions: list[int] = []
    for exponent in range(220):
        size = label_count(published_region(max(1, round(2 ** (exponent / 10)))))
        if size not in regions:
            regions.append(size)
    assert regions[:8] == [2, 4, 9, 27, 32, 81, 243, 729]
    assert 4_782_969 in regions
    assert regions == sorted(regions)


def test_the_published_form_misses_the_least_mean_where_the_design_notes_say() -> None:
    assert published_region(65_536) == Cube(3, 12)
    assert exact_region(65_536) == Cube(3, 11)


@given(st.integers(1, 65_536))
def test_the_live_form_covers_the_hosts_within_its_budget_of_links(hosts: int) -> None:
    shape = live_region(hosts)
    assert label_count(shape) >= hosts
    assert links_per_host(shape, hosts) <= max(2.0, 2 * log2(max(2, hosts)))


@pytest.mark.parametrize("hosts", [0, -1, 2**32 + 1])
@pytest.mark.parametrize("region", [published_region, exact_region, live_region])
def test_an_impossible_number_of_hosts_is_refused(region: object, hosts: int) -> None:
    assert callable(region)
    with pytest.raises(UsageError, match="number of hosts"):
        region(hosts)
