"""M-regions: the slide's loop, the definition in the slides, and the shape of a running overlay."""

from fractions import Fraction
from itertools import count
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
    """The definition, by enumeration of all n up to log2(m) + 1 and all k up to m."""
    dimensions_max = max(1, (hosts - 1).bit_length())
    shapes = [Cube(k, n) for n in range(1, dimensions_max + 2) for k in range(2, max(3, hosts + 1)) if k**n >= hosts]
    return min(shapes, key=lambda c: (mean(c), -label_count(c)))


def test_the_exact_form_equals_enumeration() -> None:
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


def test_the_published_form_gives_the_sizes_on_the_axis_of_the_slides_plot() -> None:
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
def test_no_shape_beats_the_live_form_in_hops_without_more_links_nor_in_links_without_more_hops(hosts: int) -> None:
    """Pareto optimality, which holds for any limit on links per host."""
    shape = live_region(hosts)
    assert label_count(shape) >= hosts
    for n in range(1, hosts.bit_length() + 1):
        k = next(k for k in count(max(2, int(hosts ** (1 / n)) - 1)) if k**n >= hosts)
        other = Cube(k, n)
        fewer_hops, fewer_links = mean(other) - mean(shape), links_per_host(other, hosts) - links_per_host(shape, hosts)
        assert not (fewer_hops <= 0 and fewer_links < 0)
        assert not (fewer_hops < 0 and fewer_links <= 0)


@given(st.integers(1, 16))
def test_the_live_form_has_no_more_hops_than_a_full_hypercube_and_at_most_twice_its_links(dimensions: int) -> None:
    """2^n hosts could form a hypercube: n / 2 hops on average and n links per host."""
    shape = live_region(2**dimensions)
    assert mean(shape) <= Fraction(dimensions, 2)
    assert links_per_host(shape, 2**dimensions) <= 2 * dimensions


@pytest.mark.parametrize(
    ("hosts", "shape"),
    [
        (1, Cube(2, 1)),
        (3, Cube(3, 1)),  # a ring of three: 2/3 hops; the square has 1
        (7, Cube(3, 2)),  # 4/3 hops, 9 * 4 / 7 = 5.1 links of at most 2 log2(7) = 5.6; 2^3 has 3/2 hops
        (9, Cube(3, 2)),  # 4/3 hops, 4 links
        (16, Cube(2, 4)),  # 2 hops, 4 links; 3^3 has 2 hops as well but 27 * 6 / 16 = 10.1 links, more than 8
        (27, Cube(3, 3)),  # 2 hops, 6 links; the hypercube 2^5 has 2.5
    ],
)
def test_the_live_form_in_cases_worked_out_by_hand(hosts: int, shape: Cube) -> None:
    assert live_region(hosts) == shape


def test_the_live_form_gives_up_the_shape_of_fewest_hops_where_it_needs_too_many_links() -> None:
    """17 hosts on 3^3: 2 hops but 27 * 6 / 17 = 9.5 links per host; 2 log2(17) = 8.2 are allowed."""
    assert exact_region(17) == Cube(3, 3)
    assert links_per_host(Cube(3, 3), 17) > 2 * log2(17)
    assert live_region(17) != Cube(3, 3)
    assert mean(live_region(17)) > mean(Cube(3, 3))


@pytest.mark.parametrize("hosts", [0, -1, 2**32 + 1])
@pytest.mark.parametrize("region", [published_region, exact_region, live_region])
def test_an_impossible_number_of_hosts_is_refused(region: object, hosts: int) -> None:
    assert callable(region)
    with pytest.raises(UsageError, match="number of hosts"):
        region(hosts)
