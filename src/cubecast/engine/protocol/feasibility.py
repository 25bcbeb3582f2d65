"""Feasibility: why trees never loop, not even while hosts change parents at the same moment.

Source: the feasibility condition of Babel (RFC 8966, section 2.4), which goes back to DUAL and DSDV. The publisher
increases a sequence number every two seconds, and when a host asks for that (as in Babel, section 3.8.2.1); path updates
carry it down the tree. Each host records its feasibility distance: the newest number it has forwarded, and the least depth
at which it did. It accepts a new parent only if that one's number is newer, or the same at a lesser depth. A descendant has
its numbers from this host and so can never meet that condition, even if its own view is outdated; neither a lock nor a query
of all hosts is needed.

A host that still has a parent stops forwarding numbers while it changes to another one: any host that is no descendant
soon has a newer number.

Numbers are compared within one publication of a channel only: another one under the same name has numbers of its own.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from cubecast.engine.protocol.ranges import INTEGER_MAX, SEQNO_MAX, Number, Seqno


class FeasibilityDistance(msgspec.Struct, frozen=True):
    """What a new parent must beat; every host beats the default one."""

    seqno: Annotated[int, Meta(ge=-1, le=SEQNO_MAX)] = -1
    depth: Number = INTEGER_MAX
    publication: Seqno = 0

    def allows(self, seqno: int, depth: int, publication: int = 0) -> bool:
        """Whether a host at this depth with this sequence number may be the parent."""
        if publication != self.publication:
            return True
        return seqno > self.seqno or (seqno == self.seqno and depth < self.depth)

    def passed_on(self, seqno: int, depth: int, publication: int = 0) -> "FeasibilityDistance":
        """The distance after a host at this depth has forwarded this number."""
        if publication != self.publication or seqno > self.seqno:
            return FeasibilityDistance(seqno, depth, publication)
        return msgspec.structs.replace(self, depth=min(depth, self.depth)) if seqno == self.seqno else self

    def stricter(self, other: "FeasibilityDistance") -> "FeasibilityDistance":
        """The one of two that allows fewer parents; of different publications, that of the newer one."""
        return max(self, other, key=lambda each: (each.publication, each.seqno, -each.depth))

    def one_above(self) -> "FeasibilityDistance":
        """What a grandparent must beat for the parent between to beat this; nobody is at a lesser depth than 0."""
        return self if self.seqno < 0 else msgspec.structs.replace(self, depth=max(0, self.depth - 1))
