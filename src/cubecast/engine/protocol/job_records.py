"""What owners, the super-node and hosts tell each other of jobs (cubecast.engine.directory.jobs). Plain dataclasses, as records."""

from dataclasses import dataclass, field

from cubecast.engine.protocol.records import Tree
from cubecast.types import ChannelName, HostId

SENT_MODULE_BYTES_MAX = 2**20
"""Maximum size of an extension's module that is sent to another host, bytes; the super-node keeps these modules in memory."""


@dataclass(frozen=True, slots=True)
class Job:
    """A channel to make: from which other, by what.

    Attributes:
        owner: who wants it, a number drawn at random; nobody else can change it.
        extension: SHA-256 of the module, hex.
        bound_ms, rate_bps, loss: the contract under which the host that makes it receives the source.
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
        """Whether one instance can make both."""
        return self.extension == other.extension and self.same_input(other)

    def same_input(self, other: "Job") -> bool:
        """Whether both get the same frames and settings, be it in different versions."""
        mine = (self.source, self.config, self.bound_ms, self.rate_bps, self.loss)
        return mine == (other.source, other.config, other.bound_ms, other.rate_bps, other.loss)


@dataclass(frozen=True, slots=True)
class JobProgress:
    """What an extension has done so far.

    Attributes:
        overrun: frames dropped because it did not keep up.
        making_ms: how long a frame is in the making, smoothed; None before the first.
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
    """How a job fares at the host that has it.

    Attributes:
        state: `starting`, `running`, `finished` (the source has ended), `failed` (another host may do better) or `refused`
            (no host will).
        job: what it makes now.
        reason: why it failed, or why an upgrade was refused; one line.
    """

    job: Job
    state: str
    reason: str = ""
    progress: JobProgress = JobProgress()


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What the owner of a job is told.

    Attributes:
        host: who has it; None while nobody has.
        state: as in JobReport, or `waiting` while nobody has it.
        module_wanted: the super-node does not have the module.
    """

    host: HostId | None
    state: str
    reason: str = ""
    progress: JobProgress = JobProgress()
    module_wanted: bool = False
