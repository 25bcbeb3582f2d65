"""cubecast: live media over a k-ary n-cube of ordinary hosts, each subscriber within its own bound on latency.

    async with cubecast.join() as host:
        async with host.publish("cam", "camera.mp4") as publication:
            await publication.done()

    async with cubecast.join() as host:
        async for frame in host.subscribe("cam", bound_ms=300):
            print(frame.track, frame.delay_ms)

The names below are imported when they are first used, so that `import cubecast` is quick.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cubecast.client.derivation import Derivation as Derivation
    from cubecast.client.directory import overview as overview
    from cubecast.client.events import Admitted as Admitted
    from cubecast.client.events import Announced as Announced
    from cubecast.client.events import Carrying as Carrying
    from cubecast.client.events import ChannelFailed as ChannelFailed
    from cubecast.client.events import ChannelStatus as ChannelStatus
    from cubecast.client.events import ContractViolated as ContractViolated
    from cubecast.client.events import DerivedAnnounced as DerivedAnnounced
    from cubecast.client.events import DerivedFinished as DerivedFinished
    from cubecast.client.events import DerivedStatus as DerivedStatus
    from cubecast.client.events import Ended as Ended
    from cubecast.client.events import Event as Event
    from cubecast.client.events import EventsDropped as EventsDropped
    from cubecast.client.events import ExtensionFailing as ExtensionFailing
    from cubecast.client.events import ExtensionUpgraded as ExtensionUpgraded
    from cubecast.client.events import Finished as Finished
    from cubecast.client.events import HostStatus as HostStatus
    from cubecast.client.events import JobAnnounced as JobAnnounced
    from cubecast.client.events import JobStatus as JobStatus
    from cubecast.client.events import Joined as Joined
    from cubecast.client.events import Notice as Notice
    from cubecast.client.events import ParentChanged as ParentChanged
    from cubecast.client.events import PublicationStatus as PublicationStatus
    from cubecast.client.events import Receiving as Receiving
    from cubecast.client.events import Refused as Refused
    from cubecast.client.events import SubscriptionStatus as SubscriptionStatus
    from cubecast.client.events import UpgradeFailed as UpgradeFailed
    from cubecast.client.events import Waiting as Waiting
    from cubecast.client.host import Host as Host
    from cubecast.client.host import join as join
    from cubecast.client.publication import Publication as Publication
    from cubecast.client.publication import data_track as data_track
    from cubecast.client.recording import Output as Output
    from cubecast.client.recording import Recording as Recording
    from cubecast.client.remote_job import RemoteJob as RemoteJob
    from cubecast.client.source import Source as Source
    from cubecast.client.subscription import Frame as Frame
    from cubecast.client.subscription import Subscription as Subscription
    from cubecast.engine.protocol.records import Tree as Tree
    from cubecast.errors import BoundRefused as BoundRefused
    from cubecast.errors import ChannelUnknown as ChannelUnknown
    from cubecast.errors import CubecastError as CubecastError
    from cubecast.errors import DirectoryError as DirectoryError
    from cubecast.errors import MediaError as MediaError
    from cubecast.errors import SubscriptionError as SubscriptionError
    from cubecast.errors import TokenError as TokenError
    from cubecast.errors import UpstreamLost as UpstreamLost
    from cubecast.errors import UsageError as UsageError
    from cubecast.frames import EncodedFrame as EncodedFrame
    from cubecast.frames import Kind as Kind
    from cubecast.frames import TrackFormat as TrackFormat

__version__ = "0.1.0"

_MODULES = {
    "cubecast.client.derivation": ("Derivation",),
    "cubecast.client.directory": ("overview",),
    "cubecast.client.events": (
        "Admitted",
        "Announced",
        "Carrying",
        "ChannelFailed",
        "ChannelStatus",
        "ContractViolated",
        "DerivedAnnounced",
        "DerivedFinished",
        "DerivedStatus",
        "Ended",
        "Event",
        "EventsDropped",
        "ExtensionFailing",
        "ExtensionUpgraded",
        "Finished",
        "HostStatus",
        "JobAnnounced",
        "JobStatus",
        "Joined",
        "Notice",
        "ParentChanged",
        "PublicationStatus",
        "Receiving",
        "Refused",
        "SubscriptionStatus",
        "UpgradeFailed",
        "Waiting",
    ),
    "cubecast.client.host": (
        "Host",
        "join",
    ),
    "cubecast.client.publication": (
        "Publication",
        "data_track",
    ),
    "cubecast.client.recording": (
        "Output",
        "Recording",
    ),
    "cubecast.client.remote_job": ("RemoteJob",),
    "cubecast.client.source": ("Source",),
    "cubecast.client.subscription": (
        "Frame",
        "Subscription",
    ),
    "cubecast.engine.protocol.records": ("Tree",),
    "cubecast.errors": (
        "BoundRefused",
        "ChannelUnknown",
        "CubecastError",
        "DirectoryError",
        "MediaError",
        "SubscriptionError",
        "TokenError",
        "UpstreamLost",
        "UsageError",
    ),
    "cubecast.frames": (
        "EncodedFrame",
        "Kind",
        "TrackFormat",
    ),
}
"""The public names by the module that defines them."""
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Admitted",
    "Announced",
    "BoundRefused",
    "Carrying",
    "ChannelFailed",
    "ChannelStatus",
    "ChannelUnknown",
    "ContractViolated",
    "CubecastError",
    "Derivation",
    "DerivedAnnounced",
    "DerivedFinished",
    "DerivedStatus",
    "DirectoryError",
    "EncodedFrame",
    "Ended",
    "Event",
    "EventsDropped",
    "ExtensionFailing",
    "ExtensionUpgraded",
    "Finished",
    "Frame",
    "Host",
    "HostStatus",
    "JobAnnounced",
    "JobStatus",
    "Joined",
    "Kind",
    "MediaError",
    "Notice",
    "Output",
    "ParentChanged",
    "Publication",
    "PublicationStatus",
    "Receiving",
    "Recording",
    "Refused",
    "RemoteJob",
    "Source",
    "Subscription",
    "SubscriptionError",
    "SubscriptionStatus",
    "TokenError",
    "TrackFormat",
    "Tree",
    "UpgradeFailed",
    "UpstreamLost",
    "UsageError",
    "Waiting",
    "__version__",
    "data_track",
    "join",
    "overview",
]


if not TYPE_CHECKING:  # else a type checker would accept any name

    def __getattr__(name: str) -> object:
        """Imports a public name when it is first used (PEP 562)."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'cubecast' has no attribute {name!r}")
        value: object = getattr(importlib.import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
