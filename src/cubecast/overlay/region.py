"""Which shape (k, n) for m hosts. Source: the slides' "Calculating M-regions".

Two forms of the same question, "the largest M >= m for which A(k, n) is least":

- `published_region` is the slide's loop, literally. It starts at the smallest hypercube and accepts a larger M only,
  so it can return an A that is not the least: for m = 65 536 it gives (3, 12) although (3, 11) is shorter.
- `exact_region` is what the slide asks for: least A with k^n >= m, ties to the larger M.

Both weigh hops alone. `live_region` is what a running overlay uses: with m < M a host carries M/m labels and their
links, so shapes beyond a budget of links per host are left out first.
"""

from fractions import Fraction
from math import log2

from cubecast.errors import UsageError
from cubecast.overlay.cube import Cube, cube, degree, label_count
from cubecast.overlay.kernel import kernel

LINKS_PER_DOUBLING = 2
"""Links a host may keep for each doubling of m: twice a hypercube's."""


def _mean_hops(radix: int, dimensions: int) -> Fraction:
    return Fraction(dimensions * (radix * radix // 4), radix)


def _check(hosts: int) -> None:
    if hosts < 1 or hosts > 1 << 32:
        raise UsageError(f"{hosts} hosts: the number of hosts is 1 or more, at most 2^32")


def published_region(hosts: int) -> Cube:
    """(k, n) as the slide's Calculate_M-Region(m) returns it, its lost brace restored.

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
    while i > 1:  # the slide's loop goes on to i = 0, where M = 1 is never accepted
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
    """The smallest k >= 2 with k^n >= m; found from a float root, made exact by steps of one."""
    radix = max(2, int(float(hosts) ** (1 / dimensions)))
    while radix > 2 and (radix - 1) ** dimensions >= hosts:
        radix -= 1
    while radix**dimensions < hosts:
        radix += 1
    return radix


@kernel
def least_mean_shape(hosts: int) -> tuple[int, int]:
    """(k, n) of least A(k, n) with k^n >= m, ties to the larger M; whole numbers only, so no tie is missed.

    One candidate a dimension count: A rises with k, so only the smallest radix that covers m can win. Compiled, it is
    exact for m <= 2^20.
    """
    best, best_n = max(2, hosts), 1
    n = 1
    while 2**n < hosts:
        n += 1
        k = least_radix(hosts, n)
        more = n * (k * k // 4) * best - best_n * (best * best // 4) * k  # of A(k, n) over the best, times both radices
        if more < 0 or (more == 0 and k**n > best**best_n):
            best, best_n = k, n
    return best, best_n


def _covering(hosts: int) -> list[Cube]:
    """The shapes of smallest radix that cover m, one for each number of dimensions."""
    dimensions_max = max(1, (hosts - 1).bit_length())
    return [Cube(least_radix(hosts, n), n) for n in range(1, dimensions_max + 1)]


def exact_region(hosts: int) -> Cube:
    """(k, n) of least A(k, n) with k^n >= m; ties go to the larger M.

    Raises:
        UsageError: fewer than one host, or more than 2^32.
    """
    _check(hosts)
    return Cube(*least_mean_shape(hosts))


def links_per_host(shape: Cube, hosts: int) -> float:
    """Cube links a host keeps on average when m hosts share the M labels."""
    return degree(shape) * label_count(shape) / hosts


def live_region(hosts: int) -> Cube:
    """The shape a live overlay of m hosts starts with: least A within a budget of links per host.

    The budget is two links a host for every doubling of m (a hypercube of m hosts keeps one); ties go to fewer links,
    then to the smaller radix.

    Raises:
        UsageError: fewer than one host, or more than 2^32.
    """
    _check(hosts)
    budget = max(2.0, LINKS_PER_DOUBLING * log2(max(2, hosts)))
    shapes = [shape for shape in _covering(hosts) if links_per_host(shape, hosts) <= budget]
    if not shapes:  # two dimensions always fit for m > 4; below that a hypercube does
        shapes = [cube(2, max(1, (hosts - 1).bit_length()))]
    return min(shapes, key=lambda c: (_mean_hops(*c), links_per_host(c, hosts), c.radix))
