"""Jobs and their modules over real HTTP: which tokens allow which jobs, and which hosts get the module."""

import asyncio
import contextlib
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from cubecast.engine.protocol.http_bodies import JobRequest, RefreshRequest
from cubecast.engine.protocol.job_records import Job, JobProgress, JobReport
from cubecast.engine.protocol.records import Tree
from cubecast.errors import DirectoryError, TokenError
from cubecast.host.directory.client import DirectoryClient
from cubecast.tokens.permission import Permission
from cubecast.types import ChannelName, HostId
from tests.supernode.node import Node, node, request

NEWS, SMALL = ChannelName("news"), ChannelName("small")
MODULE = b"\0asm" + bytes(range(256)) * 16
JOB = Job(SMALL, NEWS, "me", hashlib.sha256(MODULE).hexdigest())


async def host(running: Node, name: str, slots: int, permission: Permission | None = None) -> DirectoryClient:
    client = running.client(permission)
    await client.join(request(client, name))
    await client.refresh(HostId(name), RefreshRequest(slots=slots))
    return client


async def test_a_job_is_pushed_to_its_host_and_the_owner_gets_its_report(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        publisher = await host(running, "p", 1)
        await publisher.announce(NEWS, Tree.HYBRID)
        owner = running.client()
        async with contextlib.aclosing(publisher.pushes(HostId("p"))) as pushes, asyncio.timeout(5):
            assert (await anext(pushes)).jobs == ()
            status = await owner.want_job(JobRequest(JOB, "auto"))
            assert (status.host, status.state, status.module_wanted) == (None, "waiting", True)
            await owner.upload_module(JOB.extension, MODULE)
            assert (await owner.want_job(JobRequest(JOB, "auto"))).host == "p"
            assert (await anext(pushes)).jobs == (JOB,)
            assert await publisher.fetch_module(JOB.extension) == MODULE
            report = JobReport(JOB, "running", "", JobProgress(frames_in=7, processing_ms=0.5))
            await publisher.refresh(HostId("p"), RefreshRequest(slots=1, jobs=(report,)))
            status = await owner.want_job(JobRequest(JOB, "auto"))
            assert (status.state, status.progress) == ("running", report.progress)
            await owner.end_job(SMALL, JOB.owner)
            assert (await anext(pushes)).jobs == ()


async def test_a_job_gives_its_host_the_right_to_its_two_channels_and_no_other(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        publisher = await host(running, "p", 0)
        await publisher.announce(NEWS, Tree.HYBRID)
        helper = await host(running, "h", 1, Permission(publish="", subscribe=""))
        with pytest.raises(TokenError, match="publishing 'small'"):
            await helper.announce(SMALL, Tree.HYBRID)
        owner = running.client()
        await owner.want_job(JobRequest(JOB, "h"))
        await owner.upload_module(JOB.extension, MODULE)
        assert (await owner.want_job(JobRequest(JOB, "h"))).host == "h"
        assert await helper.fetch_module(JOB.extension) == MODULE
        with pytest.raises(DirectoryError, match="no job"):
            await publisher.fetch_module(JOB.extension)
        await helper.announce(SMALL, Tree.HYBRID)
        assert (await helper.resolve(NEWS)).channel.publisher == "p"
        for channel in (SMALL, ChannelName("other")):
            with pytest.raises(TokenError):
                await helper.resolve(channel)
        with pytest.raises(TokenError):
            await helper.announce(ChannelName("other"), Tree.HYBRID)


async def test_a_job_needs_permission_to_subscribe_and_to_publish(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        for permission in (Permission(publish="x*"), Permission(subscribe="x*")):
            with pytest.raises(TokenError):
                await running.client(permission).want_job(JobRequest(JOB, "auto"))
        for wrong in (
            replace(JOB, extension="xyz"),
            replace(JOB, owner=""),
            replace(JOB, config={"a": "b" * 20_000}),
            replace(JOB, source=ChannelName("../x")),
        ):
            with pytest.raises(DirectoryError):
                await running.client().want_job(JobRequest(wrong, "auto"))
        with pytest.raises(DirectoryError):
            await running.client().want_job(JobRequest(JOB, "../x"))


async def test_modules_are_kept_for_jobs_only_and_must_match_their_sha_256(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        owner, helper = running.client(), await host(running, "h", 1)
        with pytest.raises(DirectoryError, match="no job needs"):
            await owner.upload_module(JOB.extension, MODULE)
        await owner.want_job(JobRequest(JOB, "auto"))
        with pytest.raises(DirectoryError, match="not the one"):
            await owner.upload_module(JOB.extension, MODULE + b"!")
        with pytest.raises(DirectoryError, match="no job"):
            await helper.fetch_module(JOB.extension)
        await owner.upload_module(JOB.extension, MODULE)
        assert not (await owner.want_job(JobRequest(JOB, "auto"))).module_wanted
        await owner.end_job(SMALL, JOB.owner)
        async with asyncio.timeout(5):
            while not (await owner.want_job(JobRequest(JOB, "auto"))).module_wanted:
                await owner.end_job(SMALL, JOB.owner)
                await asyncio.sleep(0.1)
