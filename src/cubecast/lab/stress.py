"""Stress: the number of copies of a packet that cross each physical link."""

import numpy as np

from cubecast.lab.compilation import compiled
from cubecast.overlay.delays import Delays
from cubecast.overlay.kernel import kernel
from cubecast.overlay.metrics import Stress
from cubecast.physical.network import UNKNOWN_LINK, PhysicalNetwork, Routes
from cubecast.types import Indices, Ints


def copies_stress(network: PhysicalNetwork, sources: Indices | Ints, targets: Indices | Ints) -> Stress:
    """The stress of copies from hosts `sources` to hosts `targets`, shape (copies,) each."""
    crossed = compiled(crossings)(
        network.delays, network.routes, np.asarray(sources, np.int64), np.asarray(targets, np.int64)
    )
    used = crossed > 0
    total = int(crossed.sum())
    return Stress(total / max(1, int(used.sum())), int(crossed.max(initial=0)), total)


@kernel
def crossings(delays: Delays, routes: Routes, sources: Ints, targets: Ints) -> Ints:
    """The number of copies that cross each link, shape (links,); shape (hosts,) if only access links are known."""
    crossed = np.zeros(routes.links or len(delays.at), np.int64)
    for copy in range(len(sources)):
        a, b = sources[copy], targets[copy]
        if a == b:
            continue
        if routes.links == 0:
            crossed[a] += 1
            crossed[b] += 1
        point, at = delays.at[a], routes.router[delays.at[b]]
        while at != routes.router[point]:
            link = routes.link[point, at]
            if link != UNKNOWN_LINK:
                crossed[link] += 1
            at = routes.previous[point, at]
    return crossed
