"""The refusal of a local subscription, as the user reads it."""

import math

from cubecast.engine.host import effects as fx
from cubecast.errors import BoundRefused


def refusal(refused: fx.Refused) -> BoundRefused:
    """The error for a refusal: one line with the terms that cannot be kept, the reason, and what could be kept now."""
    channel, asked, best = refused.channel, refused.contract, refused.best
    if best is None:
        why = f": {refused.reason}" if refused.reason else ""
        return BoundRefused(f"{channel}: no path to the publisher now{why}; try again later")
    requested, options = [], []
    offer = asked.counter(best)
    if offer.bound_ms > asked.bound_ms:
        requested.append(f"within {round(asked.bound_ms, 2):.10g} ms")
        options.append(f"--bound {int(offer.bound_ms) + 1}ms")
    if offer.rate_bps < asked.rate_bps:
        requested.append(f"for {asked.rate_bps / 1000:.0f} kbit/s")
        options.append(f"--rate {math.floor(offer.rate_bps)}" if offer.rate_bps >= 1 else "no --rate")
    if offer.loss > asked.loss:
        requested.append(f"with at most {asked.loss:.2%} lost")
        options.append(f"--loss {math.ceil(offer.loss * 10_000) / 100:g}%")
    if not options:
        text = f"{channel}: {refused.reason or 'the path found was lost again'}; try again"
    else:
        why = f": {refused.reason}" if refused.reason else ""
        text = f"{channel}: no path {', '.join(requested)}{why}; ask with {' '.join(options)}"
    return BoundRefused(text, best.path, offer.bound_ms, offer.rate_bps, offer.loss)
