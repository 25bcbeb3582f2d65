"""What a record means where a field is left out."""

from dataclasses import asdict

import pytest

from cubecast.cli.arguments import BOUND_DEFAULT_MS
from cubecast.engine.protocol.job_records import Job, JobProgress, JobStatus
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import Compliance, HostRecord, Neighbour, SubscriptionRecord
from cubecast.types import ChannelName, HostId, Label


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


def test_a_job_without_further_terms_receives_its_source_at_any_rate_and_loss() -> None:
    job, contract = Job(ChannelName("small"), ChannelName("news"), "me", "a" * 64), Contract(100.0)
    assert (job.rate_bps, job.loss) == (contract.rate_bps, contract.loss) == (0.0, 1.0)
