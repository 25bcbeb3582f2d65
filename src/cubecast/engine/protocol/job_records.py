"""The records of jobs that owners, the super-node and hosts exchange; plain dataclasses, as in `records`."""

from dataclasses import dataclass, field

from cubecast.engine.protocol.records import Tree
from cubecast.types import ChannelName, HostId

SENT_MODULE_BYTES_MAX = 2**20
"""Maximum size of an extension's module that is sent to another host, bytes; the super-node keeps these modules in memory."""


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

    channel: ChannelName
    source: ChannelName
    owner: str
    extension: str
    config: dict[str, str] = field(default_factory=dict)
    bound_ms: float = 1000.0
    rate_bps: float = 0.0
    loss: float = 1.0
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

    frames_in: int = 0
    frames_out: int = 0
    failures: int = 0
    last_failure: str = ""
    bypassed: int = 0
    dropped: int = 0
    overrun: int = 0
    upcalls_dropped: int = 0
    upgrades: int = 0
    processing_ms: float | None = None
    us_per_frame: float | None = None


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
    state: str
    reason: str = ""
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

    host: HostId | None
    state: str
    reason: str = ""
    progress: JobProgress = JobProgress()
    module_wanted: bool = False
