"""The scenarios by name."""

from dataclasses import dataclass

from cubecast.emulator.scenarios.churn import PUBLISHERS, churn
from cubecast.emulator.scenarios.crowd import crowd
from cubecast.emulator.scenarios.directory_down import directory_down
from cubecast.emulator.scenarios.grow_shrink import grow_shrink
from cubecast.emulator.scenarios.handshake_kill import handshake_kill
from cubecast.emulator.scenarios.hostile import hostile
from cubecast.emulator.scenarios.link_costs import delay_jump, jitter
from cubecast.emulator.scenarios.nat import nat
from cubecast.emulator.scenarios.outages import loss_burst, partition, stall
from cubecast.emulator.scenarios.relay_kill import relay_kill
from cubecast.emulator.scenarios.run import Scenario
from cubecast.emulator.scenarios.trees import trees


@dataclass(frozen=True, slots=True)
class ScenarioEntry:
    """A scenario and the default size of its runs.

    Attributes:
        text: a description, for --help.
        network: as --network takes it.
        spare: number of hosts that join later, besides `hosts`.
        publishers: number of hosts that publish, each a channel of its own.
        seconds: what --seconds sets, and its least value in seconds; None if the length is fixed.
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
    "relay-kill": ScenarioEntry(relay_kill, "kill -9 of a relay while it feeds others", seconds=("the stream", 6.0)),
    "churn": ScenarioEntry(
        churn,
        "a host joins or crashes every 5 s, three channels",
        hosts=24,
        subscribers=16,
        publishers=PUBLISHERS,
        seconds=("the churn", 10.0),
    ),
    "crowd": ScenarioEntry(
        crowd,
        "all subscribers ask at once, with bounds around what is possible",
        subscribers=12,
        network="transit-stub",
        seconds=("the stream", 10.0),
    ),
    "grow-shrink": ScenarioEntry(grow_shrink, "a host more than the cube has labels joins and leaves again", spare=1),
    "handshake-kill": ScenarioEntry(
        handshake_kill,
        "kill -9 of a host in the middle of another's search, each time at another message",
        subscribers=12,
        network="transit-stub",
        seconds=("the stream", 6.0),
    ),
    "hostile": ScenarioEntry(
        hostile,
        "a malicious host attacks while the others stream: --attack NAME or all",
        hosts=8,
        subscribers=5,
        spare=1,
        seconds=("the stream", 10.0),
    ),
    "delay-jump": ScenarioEntry(delay_jump, "a used link becomes 100 ms slower", network="transit-stub"),
    "jitter": ScenarioEntry(
        jitter, "20 ms of jitter on every link", network="transit-stub", seconds=("the jitter", 5.0)
    ),
    "stall": ScenarioEntry(stall, "a relay is stopped for 3 s (SIGSTOP)"),
    "partition": ScenarioEntry(partition, "a quarter of the hosts is cut off for 4 s"),
    "loss-burst": ScenarioEntry(loss_burst, "every link loses one datagram in ten for 4 s", network="transit-stub"),
    "directory-down": ScenarioEntry(
        directory_down, "the super-node is down for a minute", seconds=("the outage", 20.0)
    ),
    "nat": ScenarioEntry(
        nat,
        "the publisher and half of the others can dial but cannot be dialled",
        network="transit-stub",
        seconds=("the stream", 15.0),
    ),
    "trees": ScenarioEntry(
        trees,
        "the tree asked for compared with the cube's tree",
        hosts=32,
        subscribers=31,
        network="transit-stub",
        seconds=("the stream", 10.0),
    ),
}
