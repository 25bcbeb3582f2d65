"""Checks the grants of the requests that other hosts send: the super-node allows the subscriber to receive the channel."""

from cubecast.engine.host import events as ev
from cubecast.engine.protocol.messages import Attach, Message, PathRequest, StandbyRequest
from cubecast.errors import TokenError
from cubecast.tokens import Verifier
from cubecast.types import HostId


def received_event(verifier: Verifier, host: HostId, message: Message) -> ev.Received | ev.GrantRejected:
    """The engine's event for a message: a request is rejected if its grant is not valid."""
    if isinstance(message, PathRequest | Attach | StandbyRequest):
        try:
            _verify(verifier, host, message)
        except TokenError as error:
            return ev.GrantRejected(host, message, str(error))
    return ev.Received(host, message)


def _verify(verifier: Verifier, host: HostId, request: PathRequest | Attach | StandbyRequest) -> None:
    """Verifies that a grant is signed by the super-node, for the subscriber that the request is for.

    Raises:
        TokenError: it is not.
    """
    subscriber = verifier.grant(request.grant, request.channel)
    if (subscriber, host) != (*request.trail[:1], *request.trail[-1:]):
        raise TokenError("the grant is another subscriber's")
