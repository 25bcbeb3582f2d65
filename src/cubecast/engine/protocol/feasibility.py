"""Freshness: why trees never loop, not even while hosts change parents at the same moment.

Source: the feasibility condition of Babel (RFC 8966, section 2.4), which goes back to DUAL and DSDV. The publisher's
sequence number rises every second tick and flows down the tree. Every host remembers its floor: the newest number it passed on
and the least depth it had with it. A host takes a new parent only if that one is fresher than the floor: its number is
newer, or the same at a lesser depth than the host's own. Whoever is below the host got its numbers from it and is
therefore never fresher, whatever it believed when it answered; so no proof needs a lock, or a question to everyone.

A host that still has a parent stops passing numbers on while it changes over: who is not below it is soon fresher.
"""

import sys

import msgspec


class FeasibilityDistance(msgspec.Struct, frozen=True):
    """What a new parent must be fresher than; made without arguments, everyone is."""

    seqno: int = -1
    depth: int = sys.maxsize

    def allows(self, seqno: int, depth: int) -> bool:
        """Whether a host at this depth with this sequence number is fresh enough to be the parent."""
        return seqno > self.seqno or (seqno == self.seqno and depth < self.depth)

    def passed_on(self, seqno: int, depth: int) -> "FeasibilityDistance":
        """The floor after a host at this depth has passed this number on."""
        if seqno > self.seqno:
            return FeasibilityDistance(seqno, depth)
        return FeasibilityDistance(seqno, min(depth, self.depth)) if seqno == self.seqno else self

    def stricter(self, other: "FeasibilityDistance") -> "FeasibilityDistance":
        """What must hold when both must."""
        return max(self, other, key=lambda each: (each.seqno, -each.depth))

    def one_above(self) -> "FeasibilityDistance":
        """What the parent of a host that must be above this floor must be above."""
        return self if self.seqno < 0 else FeasibilityDistance(self.seqno, self.depth - 1)
