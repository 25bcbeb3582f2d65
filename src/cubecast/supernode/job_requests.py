"""Requests for jobs: what is checked before the directory decides about them, and the modules that they need."""

import re
from collections.abc import Callable

from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.directory.events import DirectoryEvent, JobEnded, JobWanted
from cubecast.engine.directory.job_placement import AUTO, PUBLISHER
from cubecast.engine.protocol.http_bodies import JobRequest
from cubecast.engine.protocol.job_records import CONFIG_CHARACTERS_MAX, OWNER_CHARACTERS_MAX, JobStatus
from cubecast.errors import DirectoryError, TokenError
from cubecast.names import check_name
from cubecast.supernode.access.usage import Usage
from cubecast.supernode.modules import Modules
from cubecast.tokens.authority import Bearer, JoinRights
from cubecast.types import ChannelName

HEX_32_BYTES = re.compile("[0-9a-f]{64}")
"""A digest or public key as it is spelled."""


def check_job(channel: ChannelName, request: JobRequest) -> None:
    """Checks names, lengths and the digest of a request.

    Raises:
        UsageError: a name is malformed.
        DirectoryError: the channel is another one, or a field is malformed or too long.
    """
    job = request.job
    if job.channel != channel:
        raise DirectoryError(f"the job derives {job.channel!r}, not {channel!r}")
    check_name("channel name", channel)
    check_name("channel name", job.source)
    if request.at not in (PUBLISHER, AUTO):
        check_name("host name", request.at)
    if not HEX_32_BYTES.fullmatch(job.extension) or not 0 < len(job.owner) <= OWNER_CHARACTERS_MAX:
        raise DirectoryError("a job needs the SHA-256 of its module, 64 hex digits, and an owner")
    if sum(len(key) + len(value) for key, value in job.config.items()) > CONFIG_CHARACTERS_MAX:
        raise DirectoryError(f"the settings have more than {CONFIG_CHARACTERS_MAX} characters")


class JobRequests:
    """What people request with a join token: jobs, and the modules that these need."""

    def __init__(self, engine: DirectoryEngine, handle: Callable[[DirectoryEvent], object], usage: Usage) -> None:
        """Nothing is requested yet.

        Args:
            handle: passes an event to the engine.
        """
        self._engine = engine
        self._handle = handle
        self._usage = usage
        self._modules = Modules()

    def request(self, rights: JoinRights, channel: ChannelName, request: JobRequest) -> JobStatus:
        """Adds a job, or renews its lease.

        Raises:
            TokenError: the token does not allow subscribing to the source or publishing the derived channel.
            UsageError: a name is malformed.
            DirectoryError: the job is refused.
            QuotaExceeded: the token has as many jobs as it may have.
        """
        job = request.job
        check_job(channel, request)
        for scope, name in (("subscribe", job.source), ("publish", channel)):
            if not rights.permission.may(scope, name):
                raise TokenError(f"this token does not allow {scope.removesuffix('e')}ing {name!r}")
        is_new = channel not in self._engine.jobs
        if is_new:
            self._usage.check_jobs(rights)
        self._handle(JobWanted(job, request.at, job.extension in self._modules))
        if is_new:
            self._usage.has_job(rights.token_id, channel)
        return self._engine.jobs.status(channel)

    def end(self, channel: ChannelName, owner: str) -> None:
        """Ends a job; only its owner can."""
        self._handle(JobEnded(channel, owner))

    def add_module(self, rights: JoinRights, digest: str, module: bytes) -> None:
        """Stores a module that a job needs.

        Raises:
            DirectoryError: no job needs it, its SHA-256 is another one, or the memory for modules is full.
            QuotaExceeded: the token has as many bytes of modules as it may have.
        """
        if digest not in self._engine.jobs.modules():
            raise DirectoryError("no job needs this module")
        self._modules.add(digest, module, rights)

    def module(self, bearer: Bearer, digest: str) -> bytes:
        """A module that a job of this host needs.

        Raises:
            DirectoryError: no job of this host needs it, or the super-node does not have it.
        """
        if all(job.extension != digest for job in self._engine.jobs.of(bearer.host)):
            raise DirectoryError(f"host {bearer.host} has no job that needs this module")
        return self._modules.get(digest)

    def forget_ended(self) -> None:
        """Deletes the modules of jobs that have ended, and counts these no more."""
        self._modules.keep(self._engine.jobs.modules())
        self._usage.keep_jobs()
