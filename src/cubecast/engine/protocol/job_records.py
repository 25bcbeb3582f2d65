"""The records of jobs that owners, the super-node and hosts exchange; plain dataclasses, as in `records`."""

from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

from msgspec import Meta

from cubecast.engine.protocol.ranges import END, Amount, Channel, Hex32, HostName, Number, Share, Text
from cubecast.engine.protocol.records import Tree
from cubecast.texts import UNPRINTABLE

SENT_MODULE_BYTES_MAX = 2**20
"""Maximum size of an extension's module that is sent to another host, bytes; the super-node keeps these modules in memory."""

OWNER_CHARACTERS_MAX = 64
"""Maximum length of an owner's random number, characters: bounds the memory for a job."""
CONFIG_CHARACTERS_MAX = 16 * 1024
"""Maximum length of a job's settings, names and values together, characters: they are pushed with every change of jobs."""
Owner: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=OWNER_CHARACTERS_MAX, pattern=f"^[^{UNPRINTABLE}]*{END}")
]
Setting: TypeAlias = Annotated[
    str, Meta(max_length=CONFIG_CHARACTERS_MAX, pattern=rf"^([\t\n\r]|[^{UNPRINTABLE}])*{END}")
]
"""A name or value for an extension, which alone reads it; it may have several lines."""
JobState: TypeAlias = Annotated[str, Meta(pattern=f"^(waiting|starting|running|finished|failed|refused){END}")]


@dataclass(frozen=True, slots=True)
class Job:
    """A channel to derive from another one.

    Attributes:
        channel: the derived channel.
        owner: a random number that identifies the owner; only requests with it change or end the job.
        extension: SHA-256 of the module, hex.
        config: the extension's settings.
        bound_ms, rate_bps, loss: the contract under which the assigned host receives the source.
        tree: of the derived channel.
    """

    channel: Channel
    source: Channel
    owner: Owner
    extension: Hex32
    config: Annotated[dict[Setting, Setting], Meta(max_length=CONFIG_CHARACTERS_MAX)] = field(default_factory=dict)
    bound_ms: Amount = 1000.0
    rate_bps: Amount = 0.0
    loss: Share = 1.0
    tree: Tree = Tree.HYBRID

    def same_instance(self, other: "Job") -> bool:
        """Whether one instance can derive both channels."""
        return self.extension == other.extension and self.same_input(other)

    def same_input(self, other: "Job") -> bool:
        """Whether both have the same source, contract and settings; the modules may differ."""
        own = (self.source, self.config, self.bound_ms, self.rate_bps, self.loss)
        return own == (other.source, other.config, other.bound_ms, other.rate_bps, other.loss)


@dataclass(frozen=True, slots=True)
class JobProgress:
    """Counters of an instance since it started.

    Attributes:
        frames_in: frames received from the source.
        frames_out: frames of the derived channel.
        overrun: frames dropped because the instance did not keep up.
        processing_ms: time to derive a frame, smoothed; None before the first.
        us_per_frame: time that the extension runs per frame, microseconds; None before the first.
    """

    frames_in: Number = 0
    frames_out: Number = 0
    failures: Number = 0
    last_failure: Text = ""
    bypassed: Number = 0
    dropped: Number = 0
    overrun: Number = 0
    upcalls_dropped: Number = 0
    upgrades: Number = 0
    processing_ms: Amount | None = None
    us_per_frame: Amount | None = None


@dataclass(frozen=True, slots=True)
class JobReport:
    """A job's state at the host to which it is assigned.

    Attributes:
        state: `starting`, `running`, `finished` (the source has ended), `failed` (another host may succeed) or `refused`
            (no host can run it).
        job: the version that runs now.
        reason: why it failed, or why an upgrade was refused; one line.
    """

    job: Job
    state: JobState
    reason: Text = ""
    progress: JobProgress = JobProgress()


@dataclass(frozen=True, slots=True)
class JobStatus:
    """The answer to a job's owner.

    Attributes:
        host: the host to which it is assigned; None while there is none.
        state: as in JobReport, or `waiting` while it is assigned to no host.
        reason: why it waits, failed or was refused; one line.
        module_wanted: the owner has to upload the module.
    """

    host: HostName | None
    state: JobState
    reason: Text = ""
    progress: JobProgress = JobProgress()
    module_wanted: bool = False
