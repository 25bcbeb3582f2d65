"""Values of every type that is decoded, within the ranges of its fields, drawn from the types themselves."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec.inspect as mi
from hypothesis import strategies as st

from cubecast.engine.protocol.ranges import END
from cubecast.texts import UNPRINTABLE

LINES = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=20)
"""Lines for the user."""
LIST_MAX = 3
"""Longest list that is drawn, except where more are needed: limits of lengths have tests of their own."""


def values(kind: object, texts: Mapping[str, st.SearchStrategy[str]] | None = None) -> st.SearchStrategy[Any]:
    """Values of a type.

    Args:
        texts: by pattern of a field, what to draw for it instead of anything that matches.
    """
    return _values(mi.type_info(kind), texts or {})


def _values(kind: mi.Type, texts: Mapping[str, st.SearchStrategy[str]]) -> st.SearchStrategy[Any]:
    match kind:
        case mi.IntType(ge=least, le=most):
            few = st.integers(
                max(-1, least or 0), min(16, most or 0)
            )  # numbers that the receiver may have chosen itself
            return few | st.integers(least, most) | st.sampled_from([least, most])
        case mi.FloatType(ge=least, le=most):
            return st.floats(least, most) | st.sampled_from([float(least or 0), float(most or 0)])
        case mi.StrType(pattern=str(pattern)) if pattern in texts:
            return texts[pattern]
        case mi.StrType(pattern=pattern, max_length=longest):
            if UNPRINTABLE in (pattern or ""):
                return LINES
            matching = st.from_regex((pattern or "^.*").removesuffix(END), fullmatch=True)
            return matching.map(lambda text: text[: longest or len(text)])
        case mi.BytesType(max_length=longest):
            return st.binary(max_size=longest)
        case mi.BoolType():
            return st.booleans()
        case mi.NoneType():
            return st.none()
        case mi.EnumType(cls=cls):
            return st.sampled_from(list(cls))
        case mi.UnionType(types=types):
            return st.one_of([_values(each, texts) for each in types])
        case mi.VarTupleType(item_type=item, min_length=least):
            return st.lists(_values(item, texts), min_size=least or 0, max_size=LIST_MAX).map(tuple)
        case mi.DictType(key_type=key, value_type=value):
            return st.dictionaries(_values(key, texts), _values(value, texts), max_size=LIST_MAX)
        case mi.StructType(cls=cls, fields=fields) | mi.DataclassType(cls=cls, fields=fields):
            return st.builds(cls, **{field.name: _values(field.type, texts) for field in fields})
    raise AssertionError(f"no values of {kind}")


def unbounded(kind: type) -> list[str]:
    """The fields of a type, and of all types in it, that have no range."""
    return sorted(set(_unbounded(mi.type_info(kind), kind.__name__ if isinstance(kind, type) else str(kind))))


def _unbounded(kind: mi.Type, where: str) -> Iterator[str]:
    match kind:
        case mi.IntType(ge=least, le=most) | mi.FloatType(ge=least, le=most):
            if least is None or most is None:
                yield where
        case mi.StrType(pattern=pattern, max_length=longest):
            if pattern is None or not (
                longest is not None or "{64}" in pattern or "{128}" in pattern or "(" in pattern
            ):
                yield where
            if pattern is not None and not pattern.endswith(END):
                yield f"{where}: the pattern lets a newline through"
        case mi.BytesType(max_length=longest):
            if longest is None:
                yield where
        case mi.VarTupleType(item_type=item, max_length=longest):
            if longest is None:
                yield where
            yield from _unbounded(item, where)
        case mi.DictType(key_type=key, value_type=value, max_length=longest):
            if longest is None:
                yield where
            yield from _unbounded(key, where)
            yield from _unbounded(value, where)
        case mi.UnionType(types=types):
            for each in types:
                yield from _unbounded(each, where)
        case mi.StructType(cls=cls, fields=fields) | mi.DataclassType(cls=cls, fields=fields):
            for field in fields:
                yield from _unbounded(field.type, f"{cls.__name__}.{field.name}")
        case mi.BoolType() | mi.NoneType() | mi.EnumType():
            pass
        case _:
            yield f"{where}: {kind}"
