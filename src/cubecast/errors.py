"""The exceptions of the package, all derived from `CubecastError`.

A `LocalError` is a mistake of the caller or of the local machine; its text is shown to the user. A `RemoteError` is a
mistake of a peer: the host that receives the peer's message discards it and continues.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it imports numpy, which would be half of the start of a process that compiles a module
    from cubecast.types import ChannelName, HostId


class CubecastError(Exception):
    """Base class of every error of this package; `str(error)` is one line that says what to do about it."""


class LocalError(CubecastError):
    """A mistake on this machine: wrong arguments, an unreadable file, a port in use."""


class RemoteError(CubecastError):
    """A mistake of a peer: a malformed or unexpected message, an invalid token."""


class UsageError(LocalError):
    """An argument has an invalid value; the message names it."""


class AddressError(LocalError):
    """An address cannot be parsed or bound."""


class NetworkFileError(LocalError):
    """A latency matrix or topology cannot be read; `str` names the file and the line."""


class LabError(LocalError):
    """The lab cannot run: a package or a service that it needs is missing or does not answer."""


class StoreError(LocalError):
    """The super-node's store cannot be written."""


class MediaError(LocalError):
    """A source or sink cannot be opened, demuxed, decoded or muxed."""


class ContainerUnsuitable(MediaError):
    """The container format of an output is unknown or cannot hold a codec, and another format could."""


class OutputClosedError(MediaError):
    """The process that reads our output has closed it, for example a player."""


class TokenError(RemoteError):
    """A token is malformed, expired, signed with another key, or meant for another use."""


class MessageError(RemoteError):
    """Bytes received from a peer are not a message of this protocol."""


class DirectoryError(CubecastError):
    """The super-node refused a request; `str` is the reason that it gave."""


class DirectoryUnreachable(DirectoryError):
    """The super-node did not answer after all retries."""


class DirectoryBusy(DirectoryUnreachable):
    """The super-node serves the request later: a rate was exceeded, or it is overloaded.

    Whoever waits treats it as one that does not answer: what runs goes on.

    Attributes:
        wait_s: the time after which to try again, s.
        overloaded: whether by the requests of all, not by those of this caller.
    """

    def __init__(self, text: str, wait_s: float, *, overloaded: bool = False) -> None:
        super().__init__(text)
        self.wait_s, self.overloaded = wait_s, overloaded


class QuotaExceeded(DirectoryError):
    """A join token has as much as it may have."""


class ExtensionRefused(LocalError):
    """An extension cannot be loaded: its file, interface, signature or settings are invalid."""


class ExtensionFailed(CubecastError):
    """A running extension has failed; `kind` is deadline, trap, output or error."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class SubscriptionError(CubecastError):
    """A subscription could not start or cannot continue."""


class ChannelUnknown(SubscriptionError):
    """No host publishes the channel."""

    def __init__(self, channel: "ChannelName", known: "tuple[ChannelName, ...]") -> None:
        others = f"announced now: {', '.join(sorted(known))}" if known else "no channel is announced now"
        super().__init__(f"channel {channel!r} is not announced; {others}")
        self.channel, self.known = channel, known


class BoundRefused(SubscriptionError):
    """No path keeps the contract.

    Attributes:
        best_path: the hosts of the best path found; empty when there is none.
        bound_ms, rate_bps, loss: the counter-offer, a contract that could be kept now; None when there is no path.
    """

    def __init__(
        self,
        text: str,
        best_path: "tuple[HostId, ...]" = (),
        bound_ms: float | None = None,
        rate_bps: float | None = None,
        loss: float | None = None,
    ) -> None:
        super().__init__(text)
        self.best_path, self.bound_ms, self.rate_bps, self.loss = best_path, bound_ms, rate_bps, loss


class UpstreamLost(SubscriptionError):
    """The parent of this subscription stopped sending or cannot be reached."""

    def __init__(self, channel: "ChannelName", host: "HostId", reason: str) -> None:
        super().__init__(f"{channel}: the stream broke at host {host} ({reason}); subscribe again to find a new path")
        self.channel, self.host, self.reason = channel, host, reason


def first_error(error: BaseException) -> BaseException:
    """The first `CubecastError` in a group, at any depth, else the group's first error; an error that is no group itself."""
    flat: list[BaseException] = []
    rest = [error]
    while rest:
        error = rest.pop(0)
        if isinstance(error, BaseExceptionGroup):
            rest[:0] = error.exceptions
        else:
            flat.append(error)
    return next((error for error in flat if isinstance(error, CubecastError)), flat[0])
