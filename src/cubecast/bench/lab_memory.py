"""Peak memory of routing among 2^20 hosts. `python -m cubecast.bench.lab_memory` prints it in GB.

It runs in a process of its own, so that nothing else counts towards the peak.
"""

import resource

from cubecast.lab.compilation import compiled
from cubecast.lab.populations import generator, network_of, seated_overlay, some_pairs
from cubecast.overlay.cube import Cube, label_count
from cubecast.overlay.many_routes import GREEDY, route_all

ROUTES = 1_000_000
"""Number of routes; their delays and hops count towards the peak, 16 bytes each."""


def peak_gb() -> float:
    """Routes between random pairs; returns the process's peak resident memory, GB (2^30 bytes)."""
    shape = Cube(2, 20)
    over, _ = seated_overlay(shape, network_of("transit-stub", 1 << 20, 1), generator(1, 2))
    rng = generator(1, 3)
    sources, targets = some_pairs(label_count(shape), ROUTES, rng)
    delay, _ = compiled(route_all)(over, GREEDY, sources, targets, rng)
    assert delay.min() > 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


if __name__ == "__main__":
    print(peak_gb())
