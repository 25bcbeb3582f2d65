"""A derived channel that another host makes: the super-node assigns the job, and its owner renews it."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cubecast.client.derivation import check_derivation
from cubecast.client.events import (
    DerivedFinished,
    Event,
    ExtensionFailing,
    ExtensionUpgraded,
    JobAnnounced,
    JobStatus,
    Notice,
    UpgradeFailed,
)
from cubecast.client.ranges import checked_choice, checked_contract
from cubecast.client.settings import default_supernode, read_token
from cubecast.client.status import STATUS_S
from cubecast.engine.directory.job_placement import AUTO, PUBLISHER
from cubecast.engine.protocol import job_records
from cubecast.engine.protocol.http_bodies import JobRequest
from cubecast.engine.protocol.records import Tree
from cubecast.errors import CubecastError, DirectoryError, DirectoryUnreachable, ExtensionRefused, TokenError
from cubecast.host.directory.client import DirectoryClient
from cubecast.names import check_name
from cubecast.sandbox.loading import aside, examine, sandboxed, wasm_of
from cubecast.types import ChannelName, HostId

RENEW_S = 2.0
"""Interval, s, at which a running job is renewed; until it runs it is requested four times as often."""
START_S = 5.0
"""Time, s, after which a job that has not run yet is given up, if the super-node finds no host for it."""
MODULE_BYTES_MAX = 1 << 20
"""Maximum size, bytes, of a module that is sent to another host; SENT_MODULE_BYTES_MAX of the super-node."""


class RemoteJob:
    """A derived channel that another host makes, for as long as `run` runs."""

    def __init__(
        self,
        source: str,
        channel: str,
        extension: str,
        bound_ms: float,
        *,
        at: str = AUTO,
        config: Mapping[str, str] | None = None,
        rate_bps: float = 0.0,
        loss: float = 1.0,
        tree: Tree = Tree.HYBRID,
        supernode: str | None = None,
        token: str | Path | None = None,
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> None:
        """A job; nothing is requested before `run`.

        Args:
            source, channel, extension, bound_ms, config, rate_bps, loss, tree: as for Derivation; the extension is a
                WebAssembly module or a shipped extension.
            at: `publisher` (of the source), `auto` (the super-node chooses), or a host's name.
            supernode, token: as for join.
            on_event: called with every event.

        Raises:
            ExtensionRefused: the module's file or manifest is not in order, or it is too large to send.
            UsageError: a name is not allowed, or the token cannot be read.
        """
        check_derivation(source, channel)
        contract, tree = checked_contract(source, bound_ms, rate_bps, loss), checked_choice("tree", tree, Tree)
        if at not in (PUBLISHER, AUTO):
            check_name("host name", at)
        self._emit, self._at, self._extension = on_event, at, extension
        self._supernode, self._token = supernode or default_supernode(), read_token(token)
        self._module = _module(extension)
        self._loaded = False
        self._job = job_records.Job(
            ChannelName(channel),
            ChannelName(source),
            secrets.token_hex(16),
            _digest(self._module),
            dict(config or {}),
            contract.bound_ms,
            contract.rate_bps,
            contract.loss,
            tree,
        )
        self._upgrade_requested = asyncio.Event()
        self._before = job_records.JobStatus(None, "waiting")
        self._host: HostId | None = None
        """The host that had the job last."""
        self._has_run = False
        self._refused_since: float | None = None

    def load(self) -> None:
        """Loads the module here, so that one that is in order here will also load at the other host; `run` does it otherwise.

        It may take seconds, and must not be called on an event loop.

        Raises:
            ExtensionRefused: the module is not in order.
            LocalError: other users can write the cache of compiled modules.
        """
        sandboxed(self._extension, self._module)
        self._loaded = True

    def upgrade(self) -> None:
        """Reads the module again and continues with it; a module that is not in order changes nothing."""
        self._upgrade_requested.set()

    async def run(self) -> None:
        """Requests the job and renews it until its source ends.

        Raises:
            DirectoryError: refused, failed, or no host can take the job.
            TokenError: the token does not allow it.
            ExtensionRefused: the module is not in order.
        """
        if not self._loaded:
            await self._load_aside(self._module)
        client = DirectoryClient(self._supernode, self._token, lambda line: self._emit(Notice(line)))
        clock = asyncio.get_running_loop().time
        reported_at = clock()
        try:
            while True:
                status = await self._request(client)
                if status is not None:
                    due = clock() - reported_at >= STATUS_S
                    self._report(status, due=due)
                    reported_at = clock() if due else reported_at
                    if status.state == "finished":
                        return
                    self._check_patience(status, clock())
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._upgrade_requested.wait(), RENEW_S if self._has_run else RENEW_S / 4)
                if self._upgrade_requested.is_set():
                    self._upgrade_requested.clear()
                    await self._load_again()
        finally:
            with suppress(DirectoryError, TokenError, TimeoutError):
                async with asyncio.timeout(RENEW_S):
                    await client.end_job(self._job.channel, self._job.owner)
            await client.close()

    async def _request(self, client: DirectoryClient) -> job_records.JobStatus | None:
        """The job's status; None while the super-node does not answer, which does not affect a running job."""
        request = JobRequest(self._job, self._at)
        try:
            status = await client.want_job(request)
            if status.module_wanted:
                await client.upload_module(self._job.extension, self._module)
                status = await client.want_job(request)
        except DirectoryUnreachable as error:
            if not self._has_run:
                raise
            self._emit(Notice(f"{error}; the job continues"))
            return None
        return status

    def _report(self, status: job_records.JobStatus, *, due: bool) -> None:
        job, before, self._before = self._job, self._before, status
        if status.state in ("failed", "refused"):
            raise DirectoryError(f"{job.channel}: {status.reason}")
        if status.state == "running" and status.host != self._host:
            self._has_run, self._host = True, status.host
            self._emit(JobAnnounced(job.channel, job.source, status.host))
        if status.state == "finished":
            self._emit(DerivedFinished(job.channel, status.progress))
        else:
            if due:
                self._emit(JobStatus(job.channel, status.host, status.state, status.reason, status.progress))
            if status.progress.failures > before.progress.failures:
                self._emit(ExtensionFailing(job.channel, status.progress))
        if self._has_run and status.reason and status.reason != before.reason:
            self._emit(Notice(status.reason))
        if status.progress.upgrades > before.progress.upgrades:
            self._emit(ExtensionUpgraded(job.channel, f"the new version of {self._extension}"))

    def _check_patience(self, status: job_records.JobStatus, now: float) -> None:
        """Raises the super-node's reason after it has found no host for START_S."""
        if self._has_run or status.state != "waiting" or not status.reason:
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since >= START_S:
            raise DirectoryError(f"{self._job.channel}: {status.reason}")

    async def _load_again(self) -> None:
        try:
            module = await asyncio.to_thread(_module, self._extension)
            await self._load_aside(module)
        except CubecastError as error:
            self._emit(UpgradeFailed(self._job.channel, str(error)))
        else:
            self._module = module
            self._job = replace(self._job, extension=_digest(self._module))

    async def _load_aside(self, module: bytes) -> None:
        await aside(lambda compilation: sandboxed(self._extension, module, compilation=compilation))


def _module(name: str) -> bytes:
    """Reads and examines a module.

    Raises:
        ExtensionRefused: it is not in order, or is too large to send.
    """
    examine(name)
    module = wasm_of(name)
    if len(module) > MODULE_BYTES_MAX:
        raise ExtensionRefused(f"{name}: a module of more than {MODULE_BYTES_MAX} bytes runs here only; leave --at out")
    return module


def _digest(module: bytes) -> str:
    return hashlib.sha256(module).hexdigest()
