"""`cubecast process --at publisher | auto | HOST`: the super-node gives the job to a host, and this command looks after it."""

import argparse
import asyncio
import hashlib
import secrets
import signal
from contextlib import suppress
from dataclasses import asdict, replace

from cubecast.cli.arguments import read_token
from cubecast.cli.command_runner import emit, notify, serve
from cubecast.cli.commands.extension import settings
from cubecast.cli.report.host_status import STATUS_S
from cubecast.engine.directory.job_placement import AUTO, PUBLISHER
from cubecast.engine.protocol.http_bodies import JobRequest
from cubecast.engine.protocol.job_records import SENT_MODULE_BYTES_MAX, Job, JobProgress, JobStatus
from cubecast.engine.protocol.records import check_name
from cubecast.errors import CubecastError, DirectoryError, DirectoryUnreachable, ExtensionRefused, TokenError
from cubecast.host.directory.client import DirectoryClient
from cubecast.sandbox.loading import sandboxed, wasm_of
from cubecast.types import ChannelName, HostId

RENEW_S = 2.0
START_S = 5.0
"""A job that no host has taken by then is given up, if none ever had it."""


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    if args.at not in (PUBLISHER, AUTO):
        check_name("host name", args.at)
    module = _module(args.extension)
    job = Job(
        ChannelName(args.channel), ChannelName(args.source), secrets.token_hex(16), _digest(module),
        settings(args.config), args.bound, args.rate, args.loss, args.tree,
    )  # fmt: skip
    return serve(_Owner(args, job, module).run())


class _Owner:
    """Has a job done, until it is over or nobody wants it."""

    def __init__(self, args: argparse.Namespace, job: Job, module: bytes) -> None:
        self._args, self._job, self._module = args, job, module
        self._client = DirectoryClient(args.supernode, read_token(args.token), notify)
        self._reload = asyncio.Event()
        self._before = JobStatus(None, "waiting")
        self._host: HostId | None = None
        """Who was at it last."""
        self._begun = False
        self._refused_since: float | None = None

    async def run(self) -> int:
        """Asks for the job again and again, and tells how it fares.

        Raises:
            DirectoryError: refused, or no host can do it.
            TokenError: not allowed.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        told_at = loop.time()
        try:
            while True:
                status = await self._ask()
                if status is not None:
                    self._tell(status, due=loop.time() - told_at >= STATUS_S)
                    told_at = loop.time() if loop.time() - told_at >= STATUS_S else told_at
                    if status.state == "finished":
                        return 0
                    self._check_patience(status, loop.time())
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._reload.wait(), RENEW_S if self._begun else RENEW_S / 4)
                if self._reload.is_set():
                    self._reload.clear()
                    await self._upgrade()
        finally:
            with suppress(DirectoryError, TokenError, TimeoutError):
                async with asyncio.timeout(RENEW_S):
                    await self._client.end_job(self._job.channel, self._job.owner)
            await self._client.close()

    def _check_patience(self, status: JobStatus, now: float) -> None:
        if self._begun or status.state != "waiting" or not status.reason:
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since >= START_S:
            raise DirectoryError(f"{self._job.channel}: {status.reason}")

    async def _ask(self) -> JobStatus | None:
        """How the job stands; None while the super-node is away, which changes nothing for a job under way."""
        request = JobRequest(self._job, self._args.at)
        try:
            status = await self._client.want_job(request)
            if status.module_wanted:
                await self._client.upload_module(self._job.extension, self._module)
                status = await self._client.want_job(request)
        except DirectoryUnreachable as error:
            if not self._begun:
                raise
            notify(f"{error}; the job goes on")
            return None
        return status

    def _tell(self, status: JobStatus, *, due: bool) -> None:
        job, before, self._before = self._job, self._before, status
        if status.state in ("failed", "refused"):
            raise DirectoryError(f"{job.channel}: {status.reason}")
        if status.state == "running" and status.host != self._host:
            self._begun, self._host = True, status.host
            if self._args.json:
                emit("announced", channel=job.channel, source=job.source, host=status.host)
            else:
                notify(f"channel {job.channel} is made from {job.source} at {status.host}")
        if status.state == "finished":
            if self._args.json:
                emit("finished", **told(job.channel, status.progress))
            else:
                notify(finished(job.channel, status.progress))
        elif self._args.json and due:
            emit(
                "status",
                host=status.host,
                state=status.state,
                reason=status.reason,
                **told(job.channel, status.progress),
            )
        elif not self._args.json and status.progress.failures > before.progress.failures:
            notify(failing(job.channel, status.progress))
        if self._begun and status.reason and status.reason != before.reason:
            notify(status.reason)
        if status.progress.upgrades > before.progress.upgrades:
            notify(f"{self._args.extension} takes over as it is now")

    async def _upgrade(self) -> None:
        try:
            self._module = await asyncio.to_thread(_module, self._args.extension)
        except CubecastError as error:
            notify(f"{error}; the version before works on")
        else:
            self._job = replace(self._job, extension=_digest(self._module))


def _module(name: str) -> bytes:
    """A module that is in order here will be there.

    Raises:
        ExtensionRefused: it is not, or it is too large to send.
    """
    module = wasm_of(name)
    sandboxed(name, module)
    if len(module) > SENT_MODULE_BYTES_MAX:
        raise ExtensionRefused(
            f"{name}: a module of more than {SENT_MODULE_BYTES_MAX} bytes can run on this host only; omit --at"
        )
    return module


def _digest(module: bytes) -> str:
    return hashlib.sha256(module).hexdigest()


def told(channel: ChannelName, progress: JobProgress) -> dict[str, object]:
    """What programs are told of a derived channel."""
    return {"channel": channel, **asdict(progress)}


def finished(channel: ChannelName, progress: JobProgress) -> str:
    """What people are told at its end."""
    return (
        f"channel {channel} finished: {progress.frames_in} frames in, {progress.frames_out} out, "
        f"{progress.failures} failure(s), {progress.processing_ms or 0.0:.1f} ms in the making"
    )


def failing(channel: ChannelName, progress: JobProgress) -> str:
    """What people are told when it fails."""
    return f"channel {channel}: {progress.failures} failure(s) so far, the last one: {progress.last_failure}"
