"""Disturbs one message in a simulated overlay: a host at one end of it dies, or the link between them closes."""

from enum import Enum
from typing import NamedTuple

from cubecast.engine.protocol.messages import Message
from cubecast.simulation.shells.host import SimulatedHost
from cubecast.types import HostId
from tests.engine.in_memory import Overlay


class How(Enum):
    """What happens at a message."""

    SENDER_BEFORE = "the sender dies before it sends it"
    SENDER_AFTER = "the sender dies after it has sent it"
    RECEIVER_BEFORE = "the receiver dies before it handles it"
    RECEIVER_AFTER = "the receiver dies after it has handled it"
    LINK_BEFORE = "it is lost, and the link closes"
    LINK_AFTER = "the link closes after it has arrived"


class Step(NamedTuple):
    """A message of a handshake."""

    sender: HostId
    receiver: HostId
    kind: str

    def killed(self, how: How) -> HostId | None:
        """The host that dies at it."""
        if how in (How.SENDER_BEFORE, How.SENDER_AFTER):
            return self.sender
        return self.receiver if how in (How.RECEIVER_BEFORE, How.RECEIVER_AFTER) else None


class Disturbed:
    """Counts the messages of a handshake in an overlay, and disturbs one of them."""

    def __init__(
        self, overlay: Overlay, kinds: tuple[type, ...], number: int | None = None, how: How | None = None
    ) -> None:
        """Counts from now on.

        Args:
            kinds: of the messages that count.
            number: of the message to disturb, from 0; None for none.
        """
        self.steps: list[Step] = []
        self._overlay, self._kinds, self._number, self._how = overlay, kinds, number, how
        self._disturbed: Message | None = None
        self._send, self._arrive = overlay.network.send, overlay.network._arrive
        overlay.network.send = self.send  # type: ignore[method-assign]
        overlay.network._arrive = self.arrive  # type: ignore[method-assign]

    def send(self, here: SimulatedHost, to: HostId, message: Message) -> None:
        """Takes the place of SimulatedNetwork.send."""
        if not here.alive:  # it died at an earlier effect of the same event
            return
        if not isinstance(message, self._kinds):
            self._send(here, to, message)
            return
        self.steps.append(Step(here.host, to, type(message).__name__))
        if len(self.steps) - 1 != self._number:
            self._send(here, to, message)
            return
        match self._how:
            case How.SENDER_BEFORE:
                self._overlay.crash(here.host)
            case How.LINK_BEFORE:
                self._overlay.queue.after(0.0, self._overlay.network.hang_up, here, to)
            case How.SENDER_AFTER:
                self._send(here, to, message)
                self._overlay.crash(here.host)
            case _:
                self._disturbed = message
                self._send(here, to, message)

    def arrive(self, sender: HostId, there: SimulatedHost, frame: list[Message]) -> None:
        """Takes the place of SimulatedNetwork._arrive."""
        if not any(message is self._disturbed for message in frame):
            self._arrive(sender, there, frame)
            return
        if self._how is How.RECEIVER_BEFORE:
            self._overlay.crash(there.host)
        self._arrive(sender, there, frame)
        if self._how is How.RECEIVER_AFTER:
            self._overlay.crash(there.host)
        if self._how is How.LINK_AFTER:
            self._overlay.network.hang_up(there, sender)
