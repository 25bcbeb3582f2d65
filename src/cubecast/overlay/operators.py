"""Operator placement: which host should process a stream.

As in SBON (Pietzuch et al., Network-aware operator placement for stream-processing systems, ICDE 2006), an operator is
placed where it adds the least delay and the fewest copies of the stream, and a running instance of the same operator is
reused. Unlike SBON, each consumer has its own bound, and breaking the fewest bounds has priority over both costs.
"""

import numpy as np

from cubecast.types import Bools, Floats, Ints

COPY_MS = 5.0
"""Cost of one additional copy of a stream or one additional instance, expressed as mean delay, ms: chosen, not measured (docs/decisions/0017). It
makes a running instance win over a new one that is hardly nearer."""


def rank_sites(input_ms: Floats, to_consumers_ms: Floats, bounds_ms: Floats, copies: Ints, open_sites: Bools) -> Ints:
    """The indices of the usable sites, best first.

    Sites are ordered by the number of bounds that they break, then by mean delay + COPY_MS * copies, then by index.

    Args:
        input_ms: shape (h,), delay of the input from its publisher to each site; not finite where there is no input.
        to_consumers_ms: shape (h, c), delay from each site to each consumer.
        bounds_ms: shape (c,), bound of each consumer.
        copies: shape (h,), additional copies of streams and instances that each site needs.
        open_sites: shape (h,), whether each site may be used.

    Returns:
        Shape (at most h,); without the sites that may not be used or have no input.
    """
    total_ms = input_ms[:, None] + to_consumers_ms
    broken = (total_ms > bounds_ms).sum(axis=1)
    mean_ms = total_ms.mean(axis=1) if total_ms.shape[1] else input_ms
    cost = mean_ms + COPY_MS * copies
    usable = open_sites & np.isfinite(cost)
    order = np.lexsort((np.arange(len(cost)), cost, broken))
    ranked: Ints = order[usable[order]]
    return ranked
