"""M-regions: which shape (k, n) is best for m hosts. Source: the slides' "Calculating M-regions".

The slides define it as "the largest M >= m for which A(k, n) is least", where M = k^n is the number of labels and A the
mean number of hops. There are three functions:

- `published_region` is the slide's loop, unchanged. It starts at the smallest hypercube and accepts only a larger M, so
  its A is not always the least: for m = 65 536 it returns (3, 12), although (3, 11) has fewer mean hops.
- `exact_region` implements the definition: least A with k^n >= m; of equal ones, the largest M.
- `live_region` is used by a running overlay. The other two consider hops only; but with m < M a host carries M/m labels
  on average and keeps the links of all of them. So it excludes shapes with too many links per host.
"""

from fractions import Fraction
from math import log2

from cubecast.errors import UsageError
from cubecast.overlay.cube import Cube, degree, label_count
from cubecast.overlay.kernel import kernel

LINKS_PER_DOUBLING = 2
"""Links per host that `live_region` allows for each doubling of m; a hypercube of m hosts has one."""


def _mean_hops(radix: int, dimensions: int) -> Fraction:
    return Fraction(dimensions * (radix * radix // 4), radix)


def _check(hosts: int) -> None:
    if hosts < 1 or hosts > 1 << 32:
        raise UsageError(f"{hosts} hosts: the number of hosts is 1 or more, at most 2^32")


def published_region(hosts: int) -> Cube:
    """(k, n) as the slide's Calculate_M-Region(m) returns it, with the brace that the slide omits.

    Raises:
        UsageError: fewer than one host, or more than 2^32.
    """
    _check(hosts)
    i, j = 1, 2
    while j**i < hosts:
        i += 1
    n, k = i, j
    largest, least = j**i, _mean_hops(j, i)
    step = 1
    while i > 1:  # the slide's loop continues to i = 0, where M = 1 is never accepted
        j += step
        i -= 1
        if _mean_hops(j, i) <= least and j**i > largest:
            step = 1
            largest, least = j**i, _mean_hops(j, i)
            n, k = i, j
        else:
            step = 0
    return Cube(k, n)


@kernel
def least_radix(hosts: int, dimensions: int) -> int:
    """The smallest k >= 2 with k^n >= m: a floating-point root, corrected to the exact integer."""
    radix = max(2, int(float(hosts) ** (1 / dimensions)))
    while radix > 2 and (radix - 1) ** dimensions >= hosts:
        radix -= 1
    while radix**dimensions < hosts:
        radix += 1
    return radix


@kernel
def least_mean_shape(hosts: int) -> tuple[int, int]:
    """(k, n) of least A(k, n) with k^n >= m; of equal ones, the largest M. Compares in integers, so it finds every tie.

    It considers one k for each n: A grows with k, so only the smallest k with k^n >= m can be best. Compiled code has
    64-bit integers and is exact for m <= 2^20.
    """
    best, best_n = max(2, hosts), 1
    n = 1
    while 2**n < hosts:
        n += 1
        k = least_radix(hosts, n)
        excess = n * (k * k // 4) * best - best_n * (best * best // 4) * k  # (A - best A) * k * best k
        if excess < 0 or (excess == 0 and k**n > best**best_n):
            best, best_n = k, n
    return best, best_n


def _covering(hosts: int) -> list[Cube]:
    """For each number of dimensions, the shape of smallest radix with at least m labels."""
    dimensions_max = max(1, (hosts - 1).bit_length())
    return [Cube(least_radix(hosts, n), n) for n in range(1, dimensions_max + 1)]


def exact_region(hosts: int) -> Cube:
    """(k, n) of least A(k, n) with k^n >= m; of equal ones, the one with the largest M.

    Raises:
        UsageError: fewer than one host, or more than 2^32.
    """
    _check(hosts)
    return Cube(*least_mean_shape(hosts))


def links_per_host(shape: Cube, hosts: int) -> float:
    """The mean number of cube links per host when m hosts carry the M labels."""
    return degree(shape) * label_count(shape) / hosts


def live_region(hosts: int) -> Cube:
    """The shape that a running overlay of m hosts starts with: least A among shapes with few enough links per host.

    The limit is LINKS_PER_DOUBLING * log2(m) links per host, at least 2. Of shapes with equal A it takes the one with
    the fewest links, then the one with the smallest radix.

    Raises:
        UsageError: fewer than one host, or more than 2^32.
    """
    _check(hosts)
    links_max = max(2.0, LINKS_PER_DOUBLING * log2(max(2, hosts)))
    shapes = [shape for shape in _covering(hosts) if links_per_host(shape, hosts) <= links_max]  # the ring always is
    return min(shapes, key=lambda c: (_mean_hops(*c), links_per_host(c, hosts), c.radix))
