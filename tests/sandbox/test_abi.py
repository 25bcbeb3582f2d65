"""Manifests are part of modules; a layout is accepted only if its tables lie in the memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.errors import ExtensionRefused
from cubecast.frames import Kind
from cubecast.sandbox.abi import (
    FRAME,
    LAYOUT,
    TRACK,
    EventKind,
    Failure,
    Level,
    Manifest,
    manifest_of,
    read_layout,
    with_manifest,
)
from tests.sandbox.modules import module, wat

manifests = st.builds(
    Manifest,
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True),
    about=st.text(max_size=100),
    level=st.sampled_from(Level),
    failure=st.sampled_from(Failure),
    tap=st.booleans(),
    tracks=st.lists(st.sampled_from(Kind), min_size=1, max_size=3).map(tuple),
    events=st.lists(st.sampled_from([kind.name.lower() for kind in EventKind]), max_size=5).map(tuple),
    memory_mib=st.integers(1, 256),
    deadline_ms=st.integers(5, 1000),
    config=st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True),
        st.text(st.characters(categories=("L", "N")), max_size=20),
    ),
)
GOOD = module(wat())


def test_tables_have_the_sizes_of_the_header() -> None:
    assert (FRAME.itemsize, TRACK.itemsize, LAYOUT.itemsize) == (32, 40, 40)


@given(manifests, manifests)
def test_the_last_manifest_put_into_a_module_is_the_one_it_has(first: Manifest, last: Manifest) -> None:
    twice = with_manifest(with_manifest(GOOD, first), last)
    assert manifest_of(twice) == last
    assert len(twice) == len(with_manifest(GOOD, last))


@given(st.binary(max_size=200))
def test_bytes_that_are_not_a_module_are_refused(wasm: bytes) -> None:
    with pytest.raises(ExtensionRefused):
        manifest_of(wasm)


@given(st.integers(8, len(GOOD) - 1))
def test_a_module_that_was_cut_short_is_refused(size: int) -> None:
    with pytest.raises(ExtensionRefused):
        manifest_of(GOOD[:size])


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (b'"abi":1', b'"abi":2'),
        (b'"name":"test"', b'"name":"Test"'),
        (b'"memory_mib":4', b'"memory_mib":0'),
        (b'"deadline_ms":200', b'"deadline_ms":  1'),
        (b'"level":"encoded"', b'"level":"encoder"'),
        (b'"events":[]', b'"evento":[]'),
    ],
)
def test_an_invalid_manifest_is_refused(field: bytes, text: bytes) -> None:
    assert field in GOOD
    with pytest.raises(ExtensionRefused):
        manifest_of(GOOD.replace(field, text))


def test_an_unknown_event_is_named_in_the_refusal() -> None:
    with pytest.raises(ExtensionRefused, match="unknown event 'eclipse'"):
        manifest_of(module(wat(), Manifest(name="test", events=("eclipse",))))


@given(st.lists(st.integers(0, 2**32 - 1), min_size=10, max_size=10), st.integers(0, 4096))
def test_a_layout_is_accepted_only_if_it_fits(numbers: list[int], at: int) -> None:
    memory = bytearray(4096)
    table = np.array([tuple(numbers)], LAYOUT).tobytes()
    memory[at : at + len(table)] = table[: max(0, len(memory) - at)]
    try:
        layout = read_layout(memoryview(memory), at)
    except ExtensionRefused:
        return
    for start, count, size in (
        (layout.frames_in, layout.frames_in_max, FRAME.itemsize),
        (layout.bytes_in, layout.bytes_in_max, 1),
        (layout.frames_out, layout.frames_out_max, FRAME.itemsize),
        (layout.tracks, layout.tracks_max, TRACK.itemsize),
    ):
        assert count > 0
        assert start + count * size <= len(memory)


def test_a_layout_that_fits_is_read() -> None:
    memory = bytearray(4096)
    memory[64:104] = np.array([(1, 128, 2, 1024, 512, 256, 4, 512, 3, 0)], LAYOUT).tobytes()
    layout = read_layout(memoryview(memory), 64)
    assert (layout.frames_in, layout.frames_out_max, layout.tracks_max) == (128, 4, 3)
