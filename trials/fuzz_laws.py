"""Runs the laws of hostile input again and again, each time with other examples, until a time is over.

    python trials/fuzz_laws.py [--minutes N]

The laws say what every parser of network and file input, and both engines, do with any bytes and any valid message: a
value, or a typed error, and never anything else. An example that breaks one is printed, and found again by the next run.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAWS = (
    "tests/engine/protocol/test_messages.py",
    "tests/engine/directory/test_directory.py",
    "tests/engine/host/test_hostile_peers.py",
    "tests/host/test_hostile_channel.py",
    "tests/supernode/test_hostile_requests.py",
    "tests/test_tokens.py",
    "tests/test_texts.py",
    "tests/test_addresses.py",
)
"""Files of laws, each run in turn."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    args = parser.parse_args()
    ends_s, rounds = time.monotonic() + 60 * args.minutes, 0
    while time.monotonic() < ends_s:
        command = (sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", "--hypothesis-profile=explore", *LAWS)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        rounds += 1
        if done.returncode != 0:
            print(done.stdout[-8000:])
            print(f"round {rounds} broke a law")
            return 1
        print(f"round {rounds}: {done.stdout.strip().splitlines()[-1]}", file=sys.stderr)
    print(f"{rounds} rounds of {len(LAWS)} files of laws in {args.minutes:g} minutes: none broken")
    return 0


if __name__ == "__main__":
    sys.exit(main())
