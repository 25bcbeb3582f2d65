"""`cubecast token`: a join token, from the key of a super-node on this machine; `cubecast token revoke` ends one."""

from pathlib import Path

from cubecast.cli.arguments import Parser, state_folder, whole_number
from cubecast.cli.command_runner import notify
from cubecast.client.settings import read_token
from cubecast.errors import UsageError
from cubecast.supernode.access.revocations import revoke
from cubecast.supernode.server import KEY_FILE
from cubecast.supernode.tls.certificate import pin_of_tokens
from cubecast.tokens.authority import Authority
from cubecast.tokens.permission import Permission
from cubecast.tokens.quota import DEFAULT_QUOTA, QUOTA_MAX, Quota

DAYS_MAX = 3650
"""Longest validity of a join token, days: ten years."""

QUOTA_OPTIONS = {
    "hosts": "hosts that may be in with it at the same time",
    "channels": "channels that these may publish at the same time",
    "subscriptions": "subscriptions of these that the super-node follows",
    "jobs": "derived channels that may be requested with it at the same time",
    "module-bytes": "size of the modules that may be uploaded for these, bytes",
}
"""The quotas that a token can state, all its hosts and jobs together."""


def run(arguments: list[str]) -> int:
    """Runs the command."""
    return _revoke(arguments[1:]) if arguments[:1] == ["revoke"] else _make(arguments)


def _make(arguments: list[str]) -> int:
    parser = Parser(
        prog="cubecast token",
        description="Make a join token that allows as much as you say. `cubecast token revoke` ends one.",
    )
    parser.add_argument("--state", type=Path, default=state_folder(), help="the super-node's folder (%(default)s)")
    parser.add_argument("--hosts", default="*", metavar="PATTERN", help="host names it allows (%(default)s)")
    parser.add_argument("--publish", default="", metavar="PATTERN", help="channels it may publish (none)")
    parser.add_argument(
        "--subscribe", default="*", metavar="PATTERN", help="channels it may subscribe to (%(default)s)"
    )
    parser.add_argument(
        "--relay",
        metavar="PATTERN",
        help="channels it may carry for others, and so read unless they are encrypted (those of --subscribe)",
    )
    parser.add_argument("--days", type=whole_number(1, DAYS_MAX), default=30, help="how long it lasts (%(default)s)")
    for option, what in QUOTA_OPTIONS.items():
        parser.add_argument(
            f"--max-{option}",
            type=whole_number(0, QUOTA_MAX),
            default=getattr(DEFAULT_QUOTA, option.replace("-", "_")),
            metavar="N",
            help=f"{what} (%(default)s)",
        )
    args = parser.parse_args(arguments)
    relay = args.subscribe if args.relay is None else args.relay
    permission = Permission(args.hosts, args.publish, args.subscribe, relay)
    quota = Quota(args.max_hosts, args.max_channels, args.max_subscriptions, args.max_jobs, args.max_module_bytes)
    authority = _authority(args.state)
    print(authority.join_token(permission, args.days * 86_400.0, pin_of_tokens(args.state), quota))
    return 0


def _revoke(arguments: list[str]) -> int:
    parser = Parser(
        prog="cubecast token revoke",
        description="End a join token, and all that was issued for it: within seconds its hosts leave the overlay.",
    )
    parser.add_argument("token", help="the token, or @FILE with it")
    parser.add_argument("--state", type=Path, default=state_folder(), help="the super-node's folder (%(default)s)")
    args = parser.parse_args(arguments)
    token_id = _authority(args.state).verifier.join_id(read_token(args.token))
    revoke(args.state, token_id)
    notify(f"revoked token {token_id}; a running super-node acts on it within a second")
    return 0


def _authority(state: Path) -> Authority:
    key = state / KEY_FILE
    if not key.exists():
        raise UsageError(f"{key} does not exist; run this beside the super-node, or give its --state")
    return Authority.load(key)
