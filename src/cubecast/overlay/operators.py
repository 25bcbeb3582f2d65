"""Where on the overlay a stream should be processed: operator placement in the latency space.

As in SBON (Pietzuch et al., Network-aware operator placement for stream-processing systems, ICDE 2006) an operator is put
where what it adds to the streams' delays and to the copies that are sent is least, and an instance of the same operator
that runs already is used again. Unlike there, each consumer has a bound of its own, and bounds come first.
"""

import numpy as np

from cubecast.types import Bools, Floats, Ints

COPY_MS = 5.0
"""What one copy more of a stream, or one instance more, may save in mean delay before it is worth its cost."""


def rank_sites(input_ms: Floats, to_consumers_ms: Floats, bounds_ms: Floats, copies: Ints, open_sites: Bools) -> Ints:
    """Sites in the order in which they should be tried, shape (at most h,); closed ones and those out of reach are left out.

    First come those that break fewest bounds, then those whose mean delay and copies cost least; equal ones in their order.

    Args:
        input_ms: shape (h,), how late the input is at each site; not finite where it cannot be had.
        to_consumers_ms: shape (h, c), from each site to each consumer.
        bounds_ms: shape (c,), of the consumers.
        copies: shape (h,), copies and instances that a site needs in addition to what there is.
        open_sites: shape (h,), whether it may be used.
    """
    whole_ms = input_ms[:, None] + to_consumers_ms
    broken = (whole_ms > bounds_ms).sum(axis=1)
    mean_ms = whole_ms.mean(axis=1) if whole_ms.shape[1] else input_ms
    cost = mean_ms + COPY_MS * copies
    usable = open_sites & np.isfinite(cost)
    order = np.lexsort((np.arange(len(cost)), cost, broken))
    ranked: Ints = order[usable[order]]
    return ranked
