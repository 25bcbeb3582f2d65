"""The mutants of a package, by the operators of Cosmic Ray, and a sample of them."""

import ast
import difflib
import hashlib
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

LEFT_OUT = ("NoOp", "VariableReplacer", "VariableInserter", "RemoveDecorator")
"""Operators that need arguments or change nothing, and one whose mutants mostly cannot be imported."""

DECLARING = ("frozen", "slots", "eq")
"""Arguments of a dataclass or a struct that no code depends on."""

Position = tuple[int, int]
"""Line, from 1, and column, from 0."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: the `occurrence`th that the operator can make in the file."""

    package: str
    path: str
    operator: str
    occurrence: int
    start: Position
    key: str
    """Names the mutant in the results: it changes with the file's text."""

    @property
    def place(self) -> str:
        """File, line and operator."""
        return f"{self.path}:{self.start[0]} {self.operator.rpartition('/')[2]}"

    def diff(self, before: str) -> str:
        """What it changes, as a unified diff without context."""
        lines = difflib.unified_diff(before.splitlines(), mutated(before, self).splitlines(), n=0, lineterm="")
        return "\n".join(list(lines)[2:])


def mutated(before: str, mutant: Mutant) -> str:
    """The file's text with the change."""
    after: str | None = mutate_code(before, get_operator(mutant.operator)(), mutant.occurrence)
    assert after is not None, "the file has changed since the sample was drawn"
    return after


def draw(root: Path, packages: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """A sample of the mutants of some packages: places are drawn, then one mutant of each.

    A place is where an operator of the language stands: of the eleven ways to replace a `+` one is drawn, so that
    arithmetic does not outnumber all other code.
    """
    places: dict[tuple[str, Position, Position], list[Mutant]] = defaultdict(list)
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            for mutant, end in _mutants(root, package, path):
                places[mutant.path, mutant.start, end].append(mutant)
    rng = random.Random(seed)
    chosen = rng.sample(sorted(places), min(count, len(places)))
    return [rng.choice(places[place]) for place in chosen]


def _mutants(root: Path, package: str, path: Path) -> Iterator[tuple[Mutant, Position]]:
    text, name = path.read_text(), str(path.relative_to(root))
    version = hashlib.sha256(text.encode()).hexdigest()[:12]
    nodes, declared = list(ast_nodes(get_ast(text))), _declarations(text)
    for operator_name in operator_names():
        if any(each in operator_name for each in LEFT_OUT):
            continue
        operator = get_operator(operator_name)()
        positions = (position for node in nodes for position in operator.mutation_positions(node))
        for occurrence, (start, end) in enumerate(positions):
            if not any(first <= start < last for first, last in declared):
                key = f"{name}:{operator_name}:{occurrence}:{version}"
                yield Mutant(package, name, operator_name, occurrence, start, key), end


def _declarations(text: str) -> list[tuple[Position, Position]]:
    """Where types and classes are declared: what no test is meant to notice, or what fails on import.

    A mutant of `int | None` or of a pattern `A() | B()` cannot be imported, and no code depends on `frozen`.
    """
    found: list[ast.expr | ast.pattern | None] = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.FunctionDef(returns=returns) | ast.AsyncFunctionDef(returns=returns):
                found.append(returns)
            case ast.arg(annotation=annotation):
                found.append(annotation)
            case ast.AnnAssign(annotation=annotation, value=value):
                found += [annotation, value if _is_union(value) else None]
            case ast.Assign(value=value) if _is_union(value):
                found.append(value)
            case ast.keyword(arg=name, value=value) if name in DECLARING:
                found.append(value)
            case ast.MatchOr():
                found.append(node)
    return [
        ((each.lineno, each.col_offset), (each.end_lineno or each.lineno, each.end_col_offset or 0))
        for each in found
        if each is not None
    ]


def _is_union(value: ast.expr | None) -> bool:
    return isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr)
