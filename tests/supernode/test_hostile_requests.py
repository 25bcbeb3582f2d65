"""Whatever a host with a valid token sends, the super-node answers or refuses, and what it publishes stays readable."""

import asyncio
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from cubecast.engine.protocol import http_bodies
from cubecast.engine.protocol.http_bodies import (
    JobRequest,
    JoinAnswer,
    JoinRequest,
    Overview,
    Problem,
    Pushed,
    RefreshRequest,
    RelocationRequest,
    RoutesRequest,
)
from cubecast.engine.protocol.ranges import END
from cubecast.engine.protocol.records import Placement, Tree
from cubecast.host.directory.client import DirectoryClient
from cubecast.types import HostId
from tests.supernode.node import CLIP, Node, node, request
from tests.wire_values import unbounded, values

A = HostId("a")
NAMES = {f"^[A-Za-z0-9_-][A-Za-z0-9._-]*{END}": st.sampled_from([CLIP, A, "b"])}
PATHS: dict[type, tuple[str, str]] = {
    JoinRequest: ("POST", "/v1/hosts"),
    RefreshRequest: ("POST", "/v1/hosts/a/refresh"),
    RelocationRequest: ("POST", "/v1/hosts/a/relocation"),
    RoutesRequest: ("POST", "/v1/hosts/a/routes"),
    JobRequest: ("PUT", "/v1/jobs/clip"),
}
BODIES = [each for each in vars(http_bodies).values() if hasattr(each, "__dataclass_fields__")]
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


VALUES = {each: values(each) for each in BODIES if each not in (Placement, JoinAnswer, Pushed)}
"""Without placements: their labels must be those of their cube."""
FITTING = {each: values(each, NAMES) for each in PATHS}


@pytest.mark.parametrize("kind", BODIES, ids=lambda kind: kind.__name__)
def test_every_field_of_every_body_and_record_has_a_range(kind: type) -> None:
    assert unbounded(kind) == []


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(VALUES, key=str)), st.data())
def test_what_is_in_range_is_decoded_as_it_was(kind: type, data: st.DataObject) -> None:
    value = data.draw(VALUES[kind])
    assert msgspec.json.decode(msgspec.json.encode(value), type=kind) == value


async def _readable(running: Node) -> None:
    """The overview and the metrics can be read, and have no number that JSON does not have."""
    client = running.clients[0]
    async with running.browser() as http:
        http.headers["Authorization"] = f"Bearer {client._join_token}"
        overview, metrics = await http.get("/v1/overview"), await http.get("/metrics")
    assert overview.status_code == metrics.status_code == 200
    msgspec.json.decode(overview.content, type=Overview)
    json.loads(overview.content, parse_constant=_refuse)
    samples = [each for family in text_string_to_metric_families(metrics.text) for each in family.samples]
    assert samples
    assert all(math.isfinite(sample.value) for sample in samples)


def _refuse(constant: str) -> None:
    raise AssertionError(constant)


async def _send(client: DirectoryClient, kind: type, content: bytes) -> httpx.Response:
    method, path = PATHS[kind]
    token = client._join_token if kind is JobRequest else ""
    proves = client._join_token if kind is JoinRequest else ""
    return await client._sent(method, path, content, proves, token)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[asyncio.Runner, Node]]:
    """A super-node with a host that publishes, and the loop that it runs in: an example of hypothesis is synchronous."""
    with asyncio.Runner() as runner:
        entered = node(tmp_path)
        here = runner.run(entered.__aenter__())
        client = here.client()
        runner.run(client.join(request(client, A)))
        runner.run(client.announce(CLIP, Tree.HYBRID))
        yield runner, here
        runner.run(entered.__aexit__(None, None, None))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(list(PATHS)), st.data())
def test_any_body_is_answered_or_refused_and_what_is_published_stays_readable(
    running: tuple[asyncio.Runner, Node], kind: type, data: st.DataObject
) -> None:
    runner, here = running
    client = here.clients[0]
    body = data.draw(FITTING[kind] | JSON)
    answer = runner.run(_send(client, kind, msgspec.json.encode(body)))
    assert answer.status_code < 500, answer.text
    if not answer.is_success and answer.status_code != 413:
        msgspec.json.decode(answer.content, type=Problem)
    runner.run(_readable(here))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bound_ms", "1e400"),
        ("bound_ms", "NaN"),
        ("bound_ms", "9" * 400),
        ("compliance", '{"kept_s": ' + "9" * 400 + "}"),
        ("compliance", '{"late_s": -1}'),
        ("state", '"\\ud800"'),
        ("state", '"\\u001b[2J"'),
        ("path", '["\\udc00x"]'),
        ("path", "[" * 50_000),
    ],
    ids=lambda text: text[:20],
)
async def test_a_record_out_of_range_is_refused(tmp_path: Path, field: str, value: str) -> None:
    record = {"channel": '"clip"', "subscriber": '"a"', "bound_ms": "100.0", "state": '"receiving"'}
    content = ", ".join(f'"{name}": {text}' for name, text in {**record, field: value}.items())
    async with node(tmp_path) as here:
        client = here.client()
        await client.join(request(client, A))
        answer = await _send(client, RefreshRequest, f'{{"subscriptions": [{{{content}}}]}}'.encode())
        assert answer.status_code == 422
        msgspec.json.decode(answer.content, type=Problem)
        await _readable(here)
