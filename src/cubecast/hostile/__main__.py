"""`python -m cubecast.hostile ATTACK ...`: one malicious host, as a process of its own; prints lines of JSON."""

import argparse
import asyncio
import json
import sys
from functools import partial

from cubecast.errors import CubecastError, first_error
from cubecast.hostile.catalogue import ATTACKS, RELAYS
from cubecast.hostile.relay import relay
from cubecast.hostile.target import Outcome, Target
from cubecast.types import ChannelName, HostId


def main(arguments: list[str]) -> int:
    """Runs one attack; a relay begins its mischief at a line on standard input."""
    parser = argparse.ArgumentParser(prog="cubecast.hostile")
    parser.add_argument("attack", choices=[*ATTACKS, *RELAYS])
    for option in ("supernode", "token", "poor-token", "channel", "victim", "listen", "advertise", "source"):
        parser.add_argument(f"--{option}", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args(arguments)
    target = Target(
        args.supernode,
        args.token,
        args.poor_token,
        ChannelName(args.channel),
        HostId(args.victim),
        args.listen,
        args.advertise,
        args.source,
        args.seconds,
    )
    outcome = asyncio.run(_attack(args.attack, target))
    print(json.dumps({"event": "outcome", "succeeded": outcome.succeeded, "detail": outcome.detail}), flush=True)
    return 0


async def _attack(name: str, target: Target) -> Outcome:
    begun, loop = asyncio.Event(), asyncio.get_running_loop()

    def began() -> None:
        sys.stdin.readline()
        begun.set()
        loop.remove_reader(sys.stdin)

    loop.add_reader(sys.stdin, began)
    if name in RELAYS:
        attack = partial(relay, mischief=RELAYS[name], begun=begun)
    else:
        print(json.dumps({"event": "ready"}), flush=True)
        await begun.wait()
        attack = ATTACKS[name]  # type: ignore[assignment]
    outcome = Outcome(False, "it could not go on")
    try:
        outcome = await attack(target)
    except* CubecastError as errors:
        outcome = Outcome(False, f"it could not go on: {first_error(errors)}")
    return outcome


sys.exit(main(sys.argv[1:]))
