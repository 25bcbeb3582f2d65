"""Measured pairs of nodes: what a survey has asked, and what it was told.

A survey is a generator that yields pairs to measure, shape (p, 2), is sent their one-way delays, shape (p,), and
returns what it made of them: no I/O of its own, so a super-node runs it over hosts that ping each other and the lab
over a matrix. Every pair is asked once; half of a round trip serves both ends.
"""

from collections.abc import Callable, Generator
from typing import NamedTuple, TypeVar

import numpy as np

from cubecast.overlay.kernel import kernel
from cubecast.types import Floats, Ints

T = TypeVar("T")
Survey = Generator[Ints, Floats, T]


class MeasuredGraph(NamedTuple):
    """The measured pairs as adjacency lists, each pair in the lists of both ends.

    Attributes:
        first: shape (n + 1,); the pairs of node v are at first[v] .. first[v + 1] - 1.
        other: the other end, rising within a list.
        one_way_ms: its delay.
    """

    first: Ints
    other: Ints
    one_way_ms: Floats


@kernel
def measured_ms(graph: MeasuredGraph, a: int, b: int) -> float:
    """The measured delay of a pair, ms; infinite where it was not measured."""
    low, high = graph.first[a], graph.first[a + 1]
    while low < high:
        middle = (low + high) // 2
        if graph.other[middle] < b:
            low = middle + 1
        else:
            high = middle
    if low < graph.first[a + 1] and graph.other[low] == b:
        return float(graph.one_way_ms[low])
    return np.inf


class Measured:
    """The pairs of n nodes measured so far; at most `pairs_max` are asked, but for those that must be."""

    def __init__(self, nodes: int, pairs_max: int) -> None:
        self.nodes = nodes
        self.pairs_max = pairs_max
        self._keys: Ints = np.empty(0, np.int64)
        self._ms: Floats = np.empty(0)
        self._graph: MeasuredGraph | None = None

    @property
    def pairs(self) -> int:
        """How many pairs were measured."""
        return len(self._keys)

    def ask(self, a: Ints, b: Ints, *, always: bool = False) -> Survey[None]:
        """Measures those pairs (a[i], b[i]) that are not known yet.

        Args:
            always: also beyond the limit; else the last ones are left out there.
        """
        keys, at = np.unique(np.minimum(a, b).astype(np.int64) * self.nodes + np.maximum(a, b), return_index=True)
        new = (keys // self.nodes != keys % self.nodes) & ~np.isin(keys, self._keys, assume_unique=True)
        in_order = np.argsort(at[new], kind="stable")
        if not always:
            in_order = in_order[: max(0, self.pairs_max - self.pairs)]
        wanted = keys[new][in_order]
        if len(wanted):
            told = yield np.column_stack([wanted // self.nodes, wanted % self.nodes]).astype(np.int64)
            keys = np.concatenate([self._keys, wanted])
            order = np.argsort(keys, kind="stable")
            self._graph = None
            self._keys, self._ms = keys[order], np.concatenate([self._ms, told])[order]

    def known_ms(self, a: Ints, b: Ints) -> Floats:
        """The delays of pairs, ms: zero from a node to itself, infinite where not measured."""
        keys = np.minimum(a, b).astype(np.int64) * self.nodes + np.maximum(a, b)
        at = np.minimum(np.searchsorted(self._keys, keys), max(0, self.pairs - 1))
        found = self._keys[at] == keys if self.pairs else np.zeros(len(keys), bool)
        told = np.where(found, self._ms[at] if self.pairs else np.inf, np.inf)
        return np.where(np.asarray(a) == np.asarray(b), 0.0, told)

    def graph(self) -> MeasuredGraph:
        """All of them as adjacency lists."""
        if self._graph is None:
            low, high = self._keys // self.nodes, self._keys % self.nodes
            ends = np.concatenate([high, low])  # keys rise, so each node's lower others come first, in order
            others = np.concatenate([low, high])
            order = np.argsort(ends, kind="stable")
            first = np.zeros(self.nodes + 1, np.int64)
            first[1:] = np.cumsum(np.bincount(ends, minlength=self.nodes))
            self._graph = MeasuredGraph(first, others[order], np.concatenate([self._ms, self._ms])[order])
        return self._graph


def conduct(survey: Survey[T], measure: Callable[[Ints], Floats]) -> tuple[T, int]:
    """Runs a survey to its end.

    Args:
        measure: the one-way delays of pairs of nodes, ms.

    Returns:
        What the survey returns, and how many pairs it asked for.
    """
    asked = 0
    try:
        pairs = next(survey)
        while True:
            asked += len(pairs)
            pairs = survey.send(measure(pairs))
    except StopIteration as end:
        return end.value, asked
