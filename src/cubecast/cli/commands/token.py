"""`cubecast token`: a join token, from the key of a super-node on this machine."""

from pathlib import Path

from cubecast.cli.arguments import Parser, state_folder, whole_number
from cubecast.errors import UsageError
from cubecast.supernode.server import KEY_FILE
from cubecast.tokens import Authority, Permission

DAYS_MAX = 3650
"""Longest validity of a join token, days: ten years."""


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(prog="cubecast token", description="Make a join token that allows as much as you say.")
    parser.add_argument("--state", type=Path, default=state_folder(), help="the super-node's folder (%(default)s)")
    parser.add_argument("--hosts", default="*", metavar="PATTERN", help="host names it allows (%(default)s)")
    parser.add_argument("--publish", default="", metavar="PATTERN", help="channels it may publish (none)")
    parser.add_argument(
        "--subscribe", default="*", metavar="PATTERN", help="channels it may subscribe to (%(default)s)"
    )
    parser.add_argument("--days", type=whole_number(1, DAYS_MAX), default=30, help="how long it lasts (%(default)s)")
    args = parser.parse_args(arguments)
    key = args.state / KEY_FILE
    if not key.exists():
        raise UsageError(f"{key} does not exist; run this beside the super-node, or give its --state")
    permission = Permission(args.hosts, args.publish, args.subscribe)
    print(Authority.load(key).join_token(permission, args.days * 86_400.0))
    return 0
