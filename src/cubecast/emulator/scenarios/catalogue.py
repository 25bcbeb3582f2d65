"""The scenarios by name."""

from dataclasses import dataclass

from cubecast.emulator.scenarios.churn import PUBLISHERS, churn
from cubecast.emulator.scenarios.directory_down import directory_down
from cubecast.emulator.scenarios.grow_shrink import grow_shrink
from cubecast.emulator.scenarios.link_costs import delay_jump, jitter
from cubecast.emulator.scenarios.nat import nat
from cubecast.emulator.scenarios.outages import loss_burst, partition, stall
from cubecast.emulator.scenarios.relay_kill import relay_kill
from cubecast.emulator.scenarios.run import Scenario
from cubecast.emulator.scenarios.trees import trees


@dataclass(frozen=True, slots=True)
class Shape:
    """A scenario and how large it is unless told otherwise.

    Attributes:
        spare: hosts that come later, beyond `hosts`.
        publishers: hosts that publish a channel each.
        seconds: what --seconds changes, and the least it may be; None where the length is given.
    """

    scenario: Scenario
    text: str
    hosts: int = 16
    subscribers: int = 8
    network: str = "none"
    spare: int = 0
    publishers: int = 1
    seconds: tuple[str, float] | None = None


SCENARIOS = {
    "relay-kill": Shape(relay_kill, "kill -9 of a relay while it feeds others", seconds=("the stream", 6.0)),
    "churn": Shape(
        churn,
        "a host joins or crashes every 5 s, three channels",
        hosts=24,
        subscribers=16,
        publishers=PUBLISHERS,
        seconds=("the churn", 10.0),
    ),
    "grow-shrink": Shape(grow_shrink, "one host more than the cube has labels, and one less again", spare=1),
    "delay-jump": Shape(delay_jump, "a used link becomes 100 ms slower", network="transit-stub"),
    "jitter": Shape(jitter, "20 ms of jitter on every link", network="transit-stub", seconds=("the jitter", 5.0)),
    "stall": Shape(stall, "a relay stands still for 3 s"),
    "partition": Shape(partition, "a quarter of the hosts is cut off for 4 s"),
    "loss-burst": Shape(loss_burst, "every link loses a tenth for 4 s", network="transit-stub"),
    "directory-down": Shape(directory_down, "the super-node is gone for a minute", seconds=("the outage", 20.0)),
    "nat": Shape(
        nat,
        "the publisher and half of the others can dial and not be dialled",
        network="transit-stub",
        seconds=("the stream", 15.0),
    ),
    "trees": Shape(
        trees,
        "the tree asked for against the cube's",
        hosts=32,
        subscribers=31,
        network="transit-stub",
        seconds=("the stream", 10.0),
    ),
}
