"""Jobs of several owners: one whose module takes long to compile holds nobody else's, and ends at once with its job."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import psutil
import pytest

from cubecast.engine.protocol.job_records import Job
from cubecast.host.derived.jobs import AssignedJobs
from cubecast.host.runtime import HostRuntime
from cubecast.host.tasks import Tasks
from cubecast.sandbox.wasm.compilation import CompileLimits
from cubecast.types import ChannelName
from tests.conditions import eventually
from tests.host.test_derived_channel import Host
from tests.sandbox.binaries import extension, functions
from tests.sandbox.modules import module, wat

BOMB = extension(functions(*[b"\x03\x40" * 1900 + b"\x0b" * 1900] * 26))
"""Takes seconds to compile."""
MODULES = {"bomb": BOMB, "good": module(wat()), "better": module(wat("(i32.const 0)")), "bad": extension(functions())}


async def fetch(name: str) -> bytes:
    return MODULES[name]


def job(channel: str, name: str, owner: str = "somebody") -> Job:
    return Job(ChannelName(channel), ChannelName("in"), owner, name, {"of": channel} if name == "bomb" else {})


def compilers() -> set[psutil.Process]:
    """Processes that compile for this one."""
    found = set()
    for process in psutil.Process(os.getpid()).children():
        try:
            if "cubecast.sandbox.wasm.compiler" in process.cmdline():
                found.add(process)
        except psutil.Error:  # it has just ended
            continue
    return found


def states(jobs: AssignedJobs) -> dict[str, str]:
    return {report.job.channel: report.state for report in jobs.reports()}


@pytest.fixture
async def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AssignedJobs]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert CompileLimits().cpu_s >= 5, "the bomb must still compile while the others are looked at"
    async with asyncio.TaskGroup() as group:
        tasks = Tasks(group)
        assigned = AssignedJobs(4, tasks, fetch)
        running = group.create_task(assigned.run(cast(HostRuntime, Host())))
        try:
            yield assigned
        finally:
            running.cancel()
            await assigned.stop()
            tasks.cancel_all()
    await eventually(lambda: not compilers())


async def test_a_module_that_compiles_for_long_holds_no_other_owner(jobs: AssignedJobs) -> None:
    jobs.want((job("slow", "bomb", "one"), job("fast", "good", "other")))
    await eventually(lambda: states(jobs).get("fast") == "running", 60)
    assert states(jobs)["slow"] == "starting"
    assert compilers()


async def test_one_owner_has_one_compiler(jobs: AssignedJobs) -> None:
    jobs.want((job("a", "bomb"), job("b", "bomb"), job("c", "bomb"), job("fast", "good", "other")))
    await eventually(lambda: states(jobs).get("fast") == "running", 60)
    assert len(compilers()) == 1


async def test_a_compiler_ends_with_its_job(jobs: AssignedJobs) -> None:
    jobs.want((job("slow", "bomb"),))
    await eventually(lambda: bool(compilers()))
    jobs.want(())
    await eventually(lambda: not compilers())
    await eventually(lambda: not jobs.reports())


async def test_a_new_version_that_compiles_for_long_is_given_up_for_the_next(jobs: AssignedJobs) -> None:
    jobs.want((job("out", "good"),))
    await eventually(lambda: states(jobs).get("out") == "running", 60)
    jobs.want((Job(ChannelName("out"), ChannelName("in"), "somebody", "bomb"),))
    await eventually(lambda: bool(compilers()))
    jobs.want((job("out", "better"),))
    await eventually(lambda: jobs.reports()[0].progress.upgrades == 1, 60)
    assert states(jobs)["out"] == "running"


async def test_a_bad_new_version_changes_nothing(jobs: AssignedJobs) -> None:
    jobs.want((job("out", "good"),))
    jobs.want((job("out", "good"), job("bad", "bad", "other")))
    await eventually(lambda: states(jobs) == {"out": "running", "bad": "refused"}, 60)
    jobs.want((job("out", "bad"),))
    await eventually(lambda: "the previous version continues" in jobs.reports()[0].reason, 60)
    assert states(jobs)["out"] == "running"
