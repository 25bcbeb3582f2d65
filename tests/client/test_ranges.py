"""The Python interface refuses an argument outside its range when it is given, with a `UsageError` that names it."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cubecast
from cubecast.client.ranges import BOUND_MS_MAX, RATE_BPS_MAX, check_whole, checked_contract
from cubecast.frames import EncodedFrame

NOWHERE = "127.0.0.1:1"
LOCAL = "127.0.0.1:0"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": -1}, "seed is -1; give a whole number in 0"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"fan_out": -5}, "fan_out is -5"),
        ({"fan_out": True}, "fan_out is True"),
        ({"uplink_bps": math.nan}, "uplink_bps is nan; give a number above 0"),
        ({"uplink_bps": 0}, "uplink_bps is 0"),
        ({"uplink_bps": "fast"}, "uplink_bps is 'fast'"),
        ({"process": 10**7}, "process is 10000000"),
        ({"reserve": {"a": -3}}, "reserve of a is -3"),
        ({"reserve": {"a": 9}}, "--fan-out allows 8"),
        ({"policy": "best"}, "policy is 'best'; give one of odr, random, greedy"),
    ],
)
def test_settings_of_a_host(options: dict[str, object], said: str) -> None:
    with pytest.raises(cubecast.UsageError, match=said):
        cubecast.join(NOWHERE, **options)  # type: ignore[arg-type]


CONTRACTS = [
    ({"bound_ms": -5}, "bound_ms is -5"),
    ({"bound_ms": math.nan}, "bound_ms is nan"),
    ({"bound_ms": math.inf}, "bound_ms is inf"),
    ({"bound_ms": 1e13}, "at most 3600000 ms"),
    ({"bound_ms": 100, "rate_bps": math.nan}, "rate_bps is nan"),
    ({"bound_ms": 100, "loss": 1.5}, "loss is 1.5"),
]


@pytest.mark.parametrize(("terms", "said"), [*CONTRACTS, ({"bound_ms": 100, "tree": "oak"}, "one of cube, graft")])
@pytest.mark.parametrize("make", [cubecast.Derivation, cubecast.RemoteJob])
def test_derived_channels(make: Callable[..., object], terms: dict[str, object], said: str) -> None:
    with pytest.raises(cubecast.UsageError, match=said):
        make("cam", "half", "thin", **terms)


@pytest.mark.parametrize("period_s", [0, -1, math.nan, math.inf])
def test_the_period_of_a_source(period_s: float) -> None:
    with pytest.raises(cubecast.UsageError, match="period_s is"):
        cubecast.Source("clip.mp4", period_s=period_s)


@given(st.floats(), st.floats(), st.floats())
def test_a_contract_is_made_exactly_if_every_term_is_in_its_range(
    bound_ms: float, rate_bps: float, loss: float
) -> None:
    valid = 0 < bound_ms <= BOUND_MS_MAX and 0 <= rate_bps <= RATE_BPS_MAX and 0 <= loss <= 1
    try:
        contract = checked_contract("cam", bound_ms, rate_bps, loss)
    except cubecast.UsageError:
        assert not valid
    else:
        assert valid
        assert (contract.bound_ms, contract.rate_bps, contract.loss) == (bound_ms, rate_bps, loss)


@given(st.integers(), st.integers(), st.integers())
def test_a_whole_number_is_accepted_exactly_within_its_range(value: int, low: int, high: int) -> None:
    try:
        check_whole("n", value, low, high)
    except cubecast.UsageError:
        assert not low <= value <= high
    else:
        assert low <= value <= high


async def test_what_a_host_is_asked_to_do(supernode: str, tmp_path: Path) -> None:
    async with cubecast.join(supernode, name="p", listen=LOCAL) as host:
        for terms, said in CONTRACTS:
            with pytest.raises(cubecast.UsageError, match=said):
                host.subscribe("cam", **terms)  # type: ignore[arg-type]
        for content in ([], None, 7, ["json"]):
            with pytest.raises(cubecast.UsageError, match="cam has nothing to publish"):
                host.publish("cam", content)  # type: ignore[arg-type]
        with pytest.raises(cubecast.UsageError, match="tree is 'oak'"):
            host.publish("cam", tmp_path / "clip.mp4", tree="oak")  # type: ignore[arg-type]


async def test_a_frame_that_no_track_takes_changes_nothing(supernode: str) -> None:
    async with (
        cubecast.join(supernode, name="p", listen=LOCAL) as host,
        host.publish("numbers", [cubecast.data_track("json")]) as publication,
    ):
        for track in (-1, 1, 10**9):
            with pytest.raises(cubecast.UsageError, match=rf"no track {track}; its tracks are 0 \(.*json"):
                publication.write(b"1", track=track)
            with pytest.raises(cubecast.UsageError, match=f"no track {track}"):
                publication.write(EncodedFrame(track, 0, 0, 0, keyframe=True, payload=b"1"))
        for content in ("text", None, 5, [1]):
            with pytest.raises(cubecast.UsageError, match="a frame is bytes or an EncodedFrame"):
                publication.write(content)  # type: ignore[arg-type]
        with pytest.raises(cubecast.UsageError, match="captured_s is nan"):
            publication.write(b"1", captured_s=math.nan)
        assert publication.published == (0,)
        publication.write(b"1")
        assert publication.published == (1,)
