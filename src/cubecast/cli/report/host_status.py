"""What the commands that run a host say of it."""

from cubecast.cli.command_runner import emit, notify
from cubecast.engine.host.effects import ParentChanged
from cubecast.host.runtime import HostRuntime
from cubecast.overlay.cube import Cube, format_label

STATUS_S = 0.5
"""A watching program is told how the host fares this often."""


def tell_joined(host: HostRuntime, json: bool) -> None:
    """Says that the host is in the overlay, and where; from now on also when a channel gets another parent."""
    host.on_parent_changed = lambda change: _tell_parent(host, change, json)
    placement = host.placement
    seat = format_label(Cube(placement.radix, placement.dimensions), placement.seat)
    if json:
        emit("joined", host=host.config.name, label=placement.seat, address=host.address)
    else:
        notify(
            f"host {host.config.name} joined at label {seat} of {placement.radix}^{placement.dimensions}, "
            f"reachable at {host.address} (UDP)"
        )


def _tell_parent(host: HostRuntime, change: ParentChanged, json: bool) -> None:
    if json:
        told = {"channel": change.channel, "before": change.before, "after": change.after, "reason": change.reason}
        emit("parent", at_s=round(host.clock(), 3), **told)
    else:
        notify(f"{change.channel} now comes from {change.after} instead of {change.before} ({change.reason})")


def status(host: HostRuntime) -> dict[str, object]:
    """What a watching program wants to know of a host."""
    view = host.view()
    return {
        "copies": sum(count.relayed for count in host.copies().values()),
        "ready": host.ready(),
        "shape": f"{host.placement.radix}^{host.placement.dimensions}",
        "links": {link.host: link.one_way_ms for link in view.links if link.up},
        "channels": {
            branch.channel: {"upstream": branch.upstream, "children": list(branch.children)} for branch in view.branches
        },
    }
