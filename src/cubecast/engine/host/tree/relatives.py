"""The relatives that a host sends its children: those who may take its place as their parent."""

from cubecast.engine.host.link_table import LinkTable
from cubecast.engine.host.tree.branch import Branch
from cubecast.engine.protocol.messages import RELATIVES_MAX
from cubecast.engine.protocol.records import HostRecord
from cubecast.types import HostId


def relatives_of(branch: Branch, links: LinkTable) -> dict[HostId, tuple[HostRecord, ...]]:
    """For each child its grandparent, then its uncles, who survive this host, then its siblings."""
    grandparent = None if branch.upstream is None else links.record(branch.upstream)
    first = () if grandparent is None else (grandparent,)
    records = {child: links.record(child) for child in branch.below.children}
    found: dict[HostId, tuple[HostRecord, ...]] = {}
    for child in branch.below.children:
        uncles = (record for record in branch.parent.siblings if record.host != child)
        siblings = (record for host, record in records.items() if host != child and record is not None)
        found[child] = (*first, *uncles, *siblings)[:RELATIVES_MAX]
    return found
