"""k-ary n-cubes. Source: Dally, IEEE Trans. Comput. 39(6), 1990; the slides' "Definition of a k-ary n-cube".

A label is n digits in base k. Two labels are neighbours when exactly one digit differs, by 1 modulo k: along each
dimension the labels form a ring of k.
"""

from functools import lru_cache
from typing import NamedTuple

from cubecast.errors import UsageError
from cubecast.overlay.kernel import kernel
from cubecast.types import Label

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
"""The digits of a label as text, for a radix of at most 36."""
LABELS_MAX = 1 << 32
"""Maximum number of labels of a cube."""
NEIGHBOURS_CACHED = 1 << 16
"""Number of labels whose neighbours are cached: the directory looks them up at every join and leave."""


class Cube(NamedTuple):
    """The shape (k, n); a tuple, because compiled kernels accept tuples of numbers as arguments."""

    radix: int
    dimensions: int

    def __str__(self) -> str:
        return f"{self.radix}^{self.dimensions}"


def cube(radix: int, dimensions: int) -> Cube:
    """The shape (radix, dimensions), checked.

    Raises:
        UsageError: radix below 2, no dimension, or more than 2^32 labels.
    """
    if radix < 2 or dimensions < 1 or dimensions > 32 or radix**dimensions > LABELS_MAX:
        raise UsageError(
            f"shape {radix}^{dimensions} is impossible: the radix is 2 or more, the dimensions 1 or more, "
            f"at most 2^32 labels in all; try 2^4"
        )
    return Cube(radix, dimensions)


def parse_cube(text: str) -> Cube:
    """The shape written as text, such as `2^4`.

    Raises:
        UsageError: the text is not RADIX^DIMENSIONS, or the shape is impossible.
    """
    radix, caret, dimensions = text.partition("^")
    if not caret or not radix.strip().isdecimal() or not dimensions.strip().isdecimal():
        raise UsageError(f"shape {text!r} is not RADIX^DIMENSIONS, such as 2^4")
    if len(radix) > 12 or len(dimensions) > 12:
        raise UsageError(f"shape {text[:40]!r} has more than 2^32 labels; try 2^4")
    return cube(int(radix), int(dimensions))


@kernel
def label_count(cube: Cube) -> int:
    """The number of labels, M = k^n."""
    return int(cube.radix**cube.dimensions)


@kernel
def degree(cube: Cube) -> int:
    """The number of links of one label: n for k = 2, else 2n (for k = 2 the two directions of a ring coincide)."""
    return cube.dimensions if cube.radix == 2 else 2 * cube.dimensions


@kernel
def digit(cube: Cube, label: int, dimension: int) -> int:
    """The digit of a label in a dimension, 0 .. k-1."""
    return int(label // cube.radix**dimension % cube.radix)


def step(cube: Cube, label: int, dimension: int, direction: int) -> Label:
    """The neighbour along a dimension in direction +1 or -1, modulo k."""
    here = digit(cube, label, dimension)
    there = (here + direction) % cube.radix
    return Label(label + (there - here) * cube.radix**dimension)


@lru_cache(maxsize=NEIGHBOURS_CACHED)
def neighbours(cube: Cube, label: int) -> tuple[Label, ...]:
    """The labels one hop away, ordered by dimension, direction + before -."""
    found, last, place, higher = [], cube.radix - 1, 1, label
    for _ in range(cube.dimensions):
        higher, here = divmod(higher, cube.radix)
        found.append(Label(label + place if here < last else label - last * place))
        if last > 1:
            found.append(Label(label - place if here else label + last * place))
        place *= cube.radix
    return tuple(found)


def distance(cube: Cube, a: int, b: int) -> int:
    """Hops on a shortest path: the sum over all dimensions of the ring distance of the two digits."""
    total = 0
    for _ in range(cube.dimensions):
        apart = (a - b) % cube.radix
        total += min(apart, cube.radix - apart)
        a //= cube.radix
        b //= cube.radix
    return total


@kernel
def ways_closer(radix: int, ahead: int) -> tuple[bool, bool]:
    """Whether a step up the ring, and whether a step down, leads closer to the target digit.

    Args:
        radix: k.
        ahead: target digit - own digit, modulo k.
    """
    return 0 < 2 * ahead <= radix, 2 * ahead >= radix > 2


def mean_hops(radix: int, dimensions: int) -> float:
    """Mean distance of two random labels in hops: A(k, n) = n * floor(k^2 / 4) / k."""
    return dimensions * (radix * radix // 4) / radix


def format_label(cube: Cube, label: int) -> str:
    """The label as text: digits, most significant first, as in `0110`; for k > 36 decimal with dots, as in `40.3`."""
    digits = [digit(cube, label, dimension) for dimension in reversed(range(cube.dimensions))]
    if cube.radix <= len(DIGITS):
        return "".join(DIGITS[d] for d in digits)
    return ".".join(str(d) for d in digits)


def parse_label(cube: Cube, text: str) -> Label:
    """The label written as text; the inverse of `format_label`.

    Raises:
        UsageError: not n digits below k.
    """
    parts = list(text.strip().lower()) if cube.radix <= len(DIGITS) else text.strip().split(".")
    digits = [DIGITS.find(p) if cube.radix <= len(DIGITS) else int(p) if p.isdecimal() else -1 for p in parts]
    if len(digits) != cube.dimensions or any(d < 0 or d >= cube.radix for d in digits):
        raise UsageError(f"label {text!r} is not {cube.dimensions} digits below {cube.radix}, as shape {cube} needs")
    label = 0
    for d in digits:
        label = label * cube.radix + d
    return Label(label)
