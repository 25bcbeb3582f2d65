"""The one tree of errors.

Local errors are our caller's mistake and carry the line the user reads; remote errors are a peer's
mistake: whoever meets one drops the peer's message and goes on.
"""

from cubecast.types import ChannelName, HostId


class CubecastError(Exception):
    """Every error of this package; `str(error)` is one line that says what to do about it."""


class LocalError(CubecastError):
    """Our caller's mistake: wrong arguments, an unreadable file, a port in use."""


class RemoteError(CubecastError):
    """A peer's mistake: a malformed or unexpected message, a bad token."""


class UsageError(LocalError):
    """An argument has no meaning; the message names it."""


class AddressError(LocalError):
    """An address cannot be parsed or bound."""


class NetworkFileError(LocalError):
    """A latency matrix or topology cannot be read; `str` names the file and the line."""


class LabError(LocalError):
    """The lab cannot run: something it needs is missing or does not answer."""


class StoreError(LocalError):
    """The super-node's store cannot be written."""


class MediaError(LocalError):
    """A source or sink cannot be opened, demuxed, decoded or muxed."""


class OutputClosedError(MediaError):
    """Whoever read our output is gone: a player was closed."""


class TokenError(RemoteError):
    """A token is malformed, expired, signed by someone else or not meant for this use."""


class MessageError(RemoteError):
    """Bytes from a peer are not a message of this protocol."""


class DirectoryError(CubecastError):
    """The super-node refused a request; `str` is its reason."""


class DirectoryUnreachable(DirectoryError):
    """The super-node did not answer after all retries."""


class ExtensionRefused(LocalError):
    """An extension is not loaded: its file, its interface, its signature or its settings are not in order."""


class ExtensionFailed(CubecastError):
    """An extension that runs has failed; `kind` is deadline, trap, output or error."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class SubscriptionError(CubecastError):
    """A subscription could not start or could not go on."""


class ChannelUnknown(SubscriptionError):
    """Nobody announces the channel."""

    def __init__(self, channel: ChannelName, known: tuple[ChannelName, ...]) -> None:
        others = f"announced now: {', '.join(sorted(known))}" if known else "no channel is announced now"
        super().__init__(f"channel {channel!r} is not announced; {others}")
        self.channel, self.known = channel, known


class BoundRefused(SubscriptionError):
    """No path keeps the contract; the counter-offer is what could be kept now, all None when there is no path at all."""

    def __init__(
        self,
        text: str,
        best_path: tuple[HostId, ...] = (),
        bound_ms: float | None = None,
        rate_bps: float | None = None,
        loss: float | None = None,
    ) -> None:
        super().__init__(text)
        self.best_path, self.bound_ms, self.rate_bps, self.loss = best_path, bound_ms, rate_bps, loss


class UpstreamLost(SubscriptionError):
    """The host that fed this subscription is gone."""

    def __init__(self, channel: ChannelName, host: HostId, reason: str) -> None:
        super().__init__(f"{channel}: the stream broke at host {host} ({reason}); subscribe again to find a new path")
        self.channel, self.host, self.reason = channel, host, reason


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error of ours in a group, else its first."""
    leaves: list[BaseException] = []
    rest: list[BaseException] = [group]
    while rest:
        error = rest.pop(0)
        if isinstance(error, BaseExceptionGroup):
            rest[:0] = error.exceptions
        else:
            leaves.append(error)
    return next((error for error in leaves if isinstance(error, CubecastError)), leaves[0])
