"""The tables of docs/tunables.md: what a scenario can set in the engines, read from the code of their configurations.

Names, defaults and types are those of the fields; what a field does is its docstring, and the range of a field without
one in its type is that of its check, so both are read from the source. `make tunables` writes the page.
"""

import ast
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from types import MappingProxyType

import msgspec
from msgspec.inspect import EnumType, Field, FloatType, IntType, StructType, Type, VarTupleType, type_info

from cubecast.engine.directory.config import DirectoryConfig
from cubecast.engine.host.config import DEFAULT, EngineConfig
from cubecast.simulation.scenario import Scenario

MARK = "<!-- From here on this page is made from the code: change the fields and their docstrings, and run `make tunables`. -->"
"""The line of the page below which it is generated."""
UNITS = ("ticks", "ms", "s")
"""Units that stand in a field's name; other numbers are counts, or shares if they may have a fraction."""
COLUMNS = ("name", "default", "unit", "allowed", "what it does, and why this number")


@dataclass(frozen=True, slots=True)
class Tunable:
    """The cells of one row, in the order of COLUMNS."""

    name: str
    default: str
    unit: str
    allowed: str
    reason: str


PARTS: Mapping[str, type[msgspec.Struct]] = MappingProxyType({"engine": EngineConfig, "directory": DirectoryConfig})
"""The configurations by the table of a scenario that sets them."""
_HEADS = {
    "engine": [
        "## The hosts' engines",
        "",
        f"A tick is {DEFAULT.tick_s:g} s live, and `tick_s` of the scenario in a simulation, {Scenario(hosts=2).tick_s:g} s if it has none.",
    ],
    "directory": ["## The directory's engine", "", "Durations are in seconds, whatever `tick_s` is."],
}


def tunables(part: str) -> dict[str, list[Tunable]]:
    """The tunables of an engine by component, such as `links`."""
    return {name: list(_of_component(component)) for name, component in _components(part).items()}


def section(part: str) -> str:
    """The section of the page about an engine."""
    lines = list(_HEADS[part])
    for name, component in _components(part).items():
        lines += ["", f"### `[{part}.{name}]`", "", inspect.cleandoc(component.__doc__ or ""), ""]
        lines += [
            _line(COLUMNS),
            "|" + "---|" * len(COLUMNS),
            *(_line(astuple(row)) for row in _of_component(component)),
        ]
    return "\n".join(lines) + "\n"


def with_tables(page: str) -> str:
    """The page with what is below MARK made anew."""
    return "\n".join([page.split(MARK, maxsplit=1)[0] + MARK + "\n", *map(section, PARTS)])


def _components(part: str) -> dict[str, type[msgspec.Struct]]:
    return {each.name: each.type.cls for each in _fields(PARTS[part]) if isinstance(each.type, StructType)}


def _fields(config: type[msgspec.Struct]) -> tuple[Field, ...]:
    info = type_info(config)
    assert isinstance(info, StructType)
    return info.fields


def _of_component(config: type[msgspec.Struct]) -> Iterator[Tunable]:
    source = ast.parse(inspect.getsource(config)).body[0]
    assert isinstance(source, ast.ClassDef)
    reasons, ranges = _docstrings(source), _checked(source, vars(sys.modules[config.__module__]))
    for each in _fields(config):
        default = json.dumps(msgspec.to_builtins(each.default))
        allowed = ranges.get(each.name) or _allowed(each.type)
        yield Tunable(f"`{each.name}`", f"`{default}`", _unit(each), allowed, reasons[each.name])


def _docstrings(source: ast.ClassDef) -> dict[str, str]:
    """The docstring of each field: the text that follows it."""
    found = {}
    for field, text in zip(source.body, source.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            found[ast.unparse(field.target)] = " ".join(str(ast.literal_eval(text.value)).split())
    return found


def _checked(source: ast.ClassDef, names: Mapping[str, object]) -> dict[str, str]:
    """The range that each field is held to by `_check(self, LEAST, MOST, "field", ..)`; a limit may be a constant."""
    found = dict[str, str]()
    for call in ast.walk(source):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "_check":
            least, most = (names[x.id] if isinstance(x, ast.Name) else ast.literal_eval(x) for x in call.args[1:3])
            found |= {ast.literal_eval(field): f"{least:.15g} to {most:.15g}" for field in call.args[3:]}
    return found


def _allowed(kind: Type) -> str:
    """The values that a type admits; empty if any."""
    match kind:
        case IntType(ge=least, le=most) | FloatType(ge=least, le=most) if least is not None and most is not None:
            return f"{least:.15g} to {most:.15g}"
        case FloatType(gt=above, le=most) if above is not None:
            return f"above {above:.15g}" + (f" to {most:.15g}" if most is not None else "")
        case VarTupleType(item_type=item, min_length=least):
            return f"at least {least}, each {_allowed(item)}"
        case EnumType(cls=enum):
            return ", ".join(f"`{json.dumps(each.value)}`" for each in enum)
    return ""


def _unit(field: Field) -> str:
    words = set(field.name.split("_"))
    of_name = next((unit for unit in UNITS if unit in words), None)
    if of_name is not None or isinstance(field.type, EnumType):
        return of_name or ""
    return "share" if isinstance(field.type, FloatType) else "count"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    (path,) = map(Path, sys.argv[1:])
    path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
