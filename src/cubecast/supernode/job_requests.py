"""Checks of a request for a job, before the directory decides about it."""

import re

from cubecast.engine.directory.job_placement import AUTO, PUBLISHER
from cubecast.engine.protocol.http_bodies import JobRequest
from cubecast.engine.protocol.job_records import CONFIG_CHARACTERS_MAX, OWNER_CHARACTERS_MAX
from cubecast.errors import DirectoryError
from cubecast.names import check_name
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
