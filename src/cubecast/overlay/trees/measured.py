"""Delays of pairs of nodes, measured on request.

A survey is an algorithm that needs measurements. It is a generator: it yields pairs of nodes to measure, shape (p, 2),
receives their one-way delays in ms, shape (p,), and returns its result. It does no I/O itself, so the super-node can
run it over hosts that ping each other and the lab over a delay matrix. Each pair is measured once, and half of the
round-trip time counts for both directions.
"""

from collections.abc import Callable, Generator
from typing import NamedTuple, TypeVar

import numpy as np

from cubecast.overlay.kernel import kernel
from cubecast.types import Floats, Ints

T = TypeVar("T")
Survey = Generator[Ints, Floats, T]
"""Yields pairs to measure, receives their delays, returns a T; see the module's docstring."""


class MeasuredGraph(NamedTuple):
    """The measured pairs as adjacency lists (compressed sparse rows); each pair is in the lists of both nodes.

    Attributes:
        first: shape (n + 1,); the list of node v has the indices first[v] .. first[v + 1] - 1.
        other: shape (2 * pairs,), the other node of the pair, ascending within a list.
        one_way_ms: shape (2 * pairs,), the delay of the pair.
    """

    first: Ints
    other: Ints
    one_way_ms: Floats


@kernel
def measured_ms(graph: MeasuredGraph, a: int, b: int) -> float:
    """The measured delay of a pair, ms; infinite if it was not measured."""
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
    """The pairs of n nodes that were measured so far.

    At most `pairs_max` pairs are measured, except by `measure(..., always=True)`.
    """

    def __init__(self, nodes: int, pairs_max: int) -> None:
        self.nodes = nodes
        self.pairs_max = pairs_max
        self._keys: Ints = np.empty(0, np.int64)
        self._ms: Floats = np.empty(0)
        self._graph: MeasuredGraph | None = None

    @property
    def pairs(self) -> int:
        """The number of measured pairs."""
        return len(self._keys)

    def measure(self, a: Ints, b: Ints, *, always: bool = False) -> Survey[None]:
        """Measures those pairs (a[i], b[i]) that were not measured yet.

        Args:
            a, b: shape (p,), nodes.
            always: measure all; otherwise the last pairs, beyond `pairs_max` in total, are not measured.
        """
        keys, at = np.unique(np.minimum(a, b).astype(np.int64) * self.nodes + np.maximum(a, b), return_index=True)
        new = (keys // self.nodes != keys % self.nodes) & ~np.isin(keys, self._keys, assume_unique=True)
        in_order = np.argsort(at[new], kind="stable")
        if not always:
            in_order = in_order[: max(0, self.pairs_max - self.pairs)]
        missing = keys[new][in_order]
        if len(missing):
            delays_ms = yield np.column_stack([missing // self.nodes, missing % self.nodes]).astype(np.int64)
            keys = np.concatenate([self._keys, missing])
            order = np.argsort(keys, kind="stable")
            self._graph = None
            self._keys, self._ms = keys[order], np.concatenate([self._ms, delays_ms])[order]

    def known_ms(self, a: Ints, b: Ints) -> Floats:
        """The delays of the pairs (a[i], b[i]), ms: 0 from a node to itself, infinite for pairs not measured."""
        keys = np.minimum(a, b).astype(np.int64) * self.nodes + np.maximum(a, b)
        at = np.minimum(np.searchsorted(self._keys, keys), max(0, self.pairs - 1))
        found = self._keys[at] == keys if self.pairs else np.zeros(len(keys), bool)
        delays_ms = np.where(found, self._ms[at] if self.pairs else np.inf, np.inf)
        return np.where(np.asarray(a) == np.asarray(b), 0.0, delays_ms)

    def graph(self) -> MeasuredGraph:
        """All measured pairs as adjacency lists."""
        if self._graph is None:
            low, high = self._keys // self.nodes, self._keys % self.nodes
            ends = np.concatenate([high, low])  # keys ascend, so a stable sort keeps each list ascending
            others = np.concatenate([low, high])
            order = np.argsort(ends, kind="stable")
            first = np.zeros(self.nodes + 1, np.int64)
            first[1:] = np.cumsum(np.bincount(ends, minlength=self.nodes))
            self._graph = MeasuredGraph(first, others[order], np.concatenate([self._ms, self._ms])[order])
        return self._graph


def run_survey(survey: Survey[T], measure: Callable[[Ints], Floats]) -> tuple[T, int]:
    """Runs a survey with a function that measures.

    Args:
        survey: the algorithm.
        measure: takes pairs of nodes, shape (p, 2), returns their one-way delays, shape (p,), ms.

    Returns:
        The result of the survey, and the number of pairs that it measured.
    """
    measured = 0
    try:
        pairs = next(survey)
        while True:
            measured += len(pairs)
            pairs = survey.send(measure(pairs))
    except StopIteration as end:
        return end.value, measured
