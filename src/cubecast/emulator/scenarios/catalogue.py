"""The scenarios by name."""

from dataclasses import dataclass

from cubecast.emulator.scenarios.relay_kill import relay_kill
from cubecast.emulator.scenarios.run import Scenario
from cubecast.emulator.scenarios.trees import trees


@dataclass(frozen=True, slots=True)
class Shape:
    """A scenario and how large it is unless told otherwise.

    Attributes:
        spare: hosts that come later, beyond `hosts`.
    """

    scenario: Scenario
    text: str
    hosts: int = 16
    subscribers: int = 8
    network: str = "none"
    spare: int = 0


SCENARIOS = {
    "relay-kill": Shape(relay_kill, "kill -9 of a relay while it feeds others"),
    "trees": Shape(trees, "the tree asked for against the cube's", hosts=32, subscribers=31, network="transit-stub"),
}
