"""hostile: a malicious host attacks an overlay while it streams; what does it get, and what do others lose?

The publisher may send two copies only, so that the others relay. One of these copies goes to the attacker where the attack
is one of a relay: it is a good relay until the stream runs.
"""

import asyncio
import sys
import time
from pathlib import Path

from cubecast.emulator.addresses import PORT
from cubecast.emulator.plan import CHANNEL
from cubecast.emulator.processes import CommandProcess
from cubecast.emulator.scenarios.run import Run, Setting, record_delivery, streaming
from cubecast.emulator.testbed import Testbed

SECONDS = 16.0
"""Default length of the stream, s."""
BEGIN_S = 4.0
"""Time in the stream at which the attack begins, s."""
END_S = 3.0
"""Time before the end of the stream at which an attack that lasts ends, s."""
FAN_OUT = 2
"""Copies that a host may send."""
BOUND_MS = 2000.0
"""Bound of the subscribers, ms: what is lost is not lost to lateness."""
ATTACKER = "mallory"
"""Name of the attacker."""
RELAYS = ("swallow", "swallow-some", "alter", "replay")
"""Attacks by a relay; a parent that does this must be left."""
ATTACKS = (
    "take-over",
    "impersonate",
    "nonsense-reports",
    "false-reports",
    "join-storm",
    "read",
    "forged-records",
    "edges",
    "garbage",
    *RELAYS,
)
"""The attacks of cubecast.hostile.catalogue."""


async def hostile(setting: Setting) -> Run:
    """Runs one attack, that of `setting.attack`."""
    run, attack = Run(), setting.attack
    seconds = setting.seconds or SECONDS
    async with streaming(setting, run, seconds, BOUND_MS, spare=1, fan_out=FAN_OUT) as bed:
        attacker = await _start_attacker(setting, bed, seconds - BEGIN_S - END_S)
        if attack in RELAYS:
            await attacker.wait_for("ready")
        await bed.subscribe_all()
        await bed.settle()
        began_s, parents = 0.0, dict[str, str]()

        async def begin() -> None:
            nonlocal began_s
            await attacker.wait_for("ready")
            await asyncio.sleep(BEGIN_S)
            began_s = time.time()
            parents.update(_parents(bed))
            attacker.press_enter()

        await bed.stream(begin)
        await attacker.wait_for("outcome")
        ended = [
            host.name for host in bed.hosts.values() if host.ended and not {"summary", "finished"} & host.events.keys()
        ]
        behind = _behind(ATTACKER, parents)
        left_s = _left_after_s(bed, {host for host, parent in parents.items() if parent == ATTACKER}, ATTACKER, began_s)
        record_delivery(run, [host for host in bed.subscribers if host.name not in behind], began_s)
        outcome = attacker.events["outcome"]
        run.detail |= {
            "attack": attack,
            "succeeded": int(bool(outcome["succeeded"])),
            "outcome": outcome["detail"],
            "frames_lost_elsewhere": run.frames_lost,
            "hosts_ended": len(ended),
            "behind_it": sorted(behind),
            "seconds_to_detect": max((s for s in left_s.values() if s is not None), default=None),
            "never_left": sum(s is None for s in left_s.values()),
        }
    return run


async def _start_attacker(setting: Setting, bed: Testbed, seconds: float) -> CommandProcess:
    serving = bed.supernode.events["serving"]
    index = len(bed.plan.seats)  # the spare host of the network
    here, door = bed.addresses.host(index), bed.addresses.door(index)
    options = {
        "--supernode": str(serving["url"]),
        "--token": await _token(setting.folder / "supernode", "--publish", "*"),
        "--poor-token": await _token(setting.folder / "supernode", "--subscribe", "", "--relay", ""),
        "--channel": bed.plan.channel(0),
        "--victim": bed.plan.name(0),
        "--listen": f"{here}:{PORT}",
        "--advertise": f"{door}:{PORT}",
        "--source": here,
        "--seconds": f"{seconds:g}",
    }
    arguments = [part for option in options.items() for part in option]
    return await bed.processes.start(ATTACKER, setting.attack, *arguments, module="cubecast.hostile")


async def _token(state: Path, *options: str) -> str:
    """A join token of the super-node."""
    command = (sys.executable, "-m", "cubecast", "token", "--state", str(state), *options)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return output.decode().strip()


def _parents(bed: Testbed) -> dict[str, str]:
    """The parent of each host that has one, by name."""
    found = {}
    for host in bed.hosts.values():
        carried = host.status.get("channels")
        branch = carried.get(CHANNEL) if isinstance(carried, dict) else None
        upstream = branch.get("upstream") if isinstance(branch, dict) else None
        if upstream is not None:
            found[host.name] = str(upstream)
    return found


def _behind(name: str, parents: dict[str, str]) -> set[str]:
    """The hosts that get the channel through a host."""
    found, before = {name}, 0
    while len(found) > before:
        before = len(found)
        found |= {host for host, parent in parents.items() if parent in found}
    return found - {name}


def _left_after_s(bed: Testbed, children: set[str], name: str, began_s: float) -> dict[str, float | None]:
    """After how long each child of a host left it, s; None if it did not."""
    left: dict[str, float | None] = dict.fromkeys(children)
    for host in bed.hosts.values():
        times = [
            float(str(c["at_s"])) for c in host.changes if c["before"] == name and float(str(c["at_s"])) >= began_s
        ]
        if host.name in left and times:
            left[host.name] = times[0] - began_s
    return left
