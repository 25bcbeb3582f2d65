"""Records: names and addresses that are refused, and what a record means where a field is left out."""

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.cli.arguments import BOUND_DEFAULT_MS
from cubecast.engine.protocol.job_records import Job, JobProgress, JobStatus
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import (
    NAME_MAX,
    Compliance,
    HostRecord,
    Neighbour,
    SubscriptionRecord,
    check_address,
    check_name,
)
from cubecast.errors import UsageError
from cubecast.types import ChannelName, HostId, Label

LETTERS = "azAZ09_-"


@given(st.text(LETTERS, min_size=1, max_size=1), st.text(LETTERS + ".", max_size=NAME_MAX - 1))
def test_names_of_letters_digits_dots_dashes_and_underscores_are_allowed(first: str, rest: str) -> None:
    check_name("host name", first + rest)


@pytest.mark.parametrize("name", ["", ".a", "..", "a b", "a/b", "ä", "a\n", "a" * (NAME_MAX + 1), "/" * (NAME_MAX + 1)])
def test_other_names_are_refused_with_what_they_name(name: str) -> None:
    with pytest.raises(UsageError, match=r"channel name .* is not allowed"):
        check_name("channel name", name)


@pytest.mark.parametrize("host", ["203.0.113.5", "relay-1.example.org", "a", "[2001:db8::5]", "[::1]"])
@pytest.mark.parametrize("port", [1, 4443, 65_535])
def test_an_address_is_a_host_and_a_port(host: str, port: int) -> None:
    check_address(f"{host}:{port}")


@pytest.mark.parametrize(
    "address",
    ["", "a", "a:", ":1", "a:0", "a:00000", "a:65536", "a:-1", "a:1 ", "-a:1", "a-:1", "2001:db8::5:1", "a b:1"],
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        check_address(address)


@pytest.mark.parametrize("counters", [Compliance(), JobProgress()])
def test_counters_start_at_zero_and_what_is_not_measured_yet_is_none(counters: Compliance | JobProgress) -> None:
    assert set(asdict(counters).values()) <= {0, "", None}


def test_an_owner_sends_a_module_only_if_it_is_asked_for_it() -> None:
    assert not JobStatus(None, "waiting").module_wanted


def test_a_job_without_a_bound_has_the_bound_of_the_command_line() -> None:
    assert Job(ChannelName("small"), ChannelName("news"), "me", "a" * 64).bound_ms == BOUND_DEFAULT_MS


def test_the_link_to_a_neighbour_leads_to_the_host_that_relays_to_it_if_there_is_one() -> None:
    near, relay = (HostRecord(HostId(name), "a:1", "f", "k", Label(1)) for name in "nr")
    assert Neighbour(Label(1), near).first == near
    assert Neighbour(Label(1), near, via=relay).first == relay


def test_a_subscription_without_further_terms_allows_any_rate_and_loss() -> None:
    report = SubscriptionRecord(ChannelName("clip"), HostId("s"), 100.0, "searching")
    contract = Contract(100.0)
    assert (report.rate_bps, report.loss) == (contract.rate_bps, contract.loss) == (0.0, 1.0)
