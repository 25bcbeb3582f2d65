"""Queries on a delivery tree, given as the parent of each host that has one, by index."""

from collections.abc import Collection, Mapping


def is_descendant(parents: Mapping[int, int], host: int, top: int) -> bool:
    """Whether a host receives its frames over another one, directly or not."""
    for _ in range(len(parents)):
        host = parents.get(host, -1)
        if host == top:
            return True
    return False


def children_of(parents: Mapping[int, int], host: int) -> list[int]:
    """The hosts that a host feeds directly, in ascending order."""
    return sorted(child for child, parent in parents.items() if parent == host)


def relays_of(parents: Mapping[int, int], publishers: Collection[int]) -> list[int]:
    """The hosts that feed others and publish nothing, in ascending order."""
    return sorted(set(parents.values()) - set(publishers))
