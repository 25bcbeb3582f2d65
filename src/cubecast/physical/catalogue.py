"""Networks by the names users give them."""

from pathlib import Path

from cubecast.errors import NetworkFileError
from cubecast.physical.backbone import backbone
from cubecast.physical.measured import measured
from cubecast.physical.network import PhysicalNetwork
from cubecast.physical.transit_stub import transit_stub


def load_network(name: str, hosts: int, seed: int) -> PhysicalNetwork:
    """`transit-stub`, a topohub name such as `sndlib/germany50`, or the path of a file of RTTs in ms.

    Raises:
        NetworkFileError: no such file, or it is no matrix.
        UsageError: the name is unknown, or the network cannot seat the hosts.
    """
    if name == "transit-stub":
        return transit_stub(hosts, seed)
    path = Path(name)
    if path.exists():
        return measured(path, hosts, seed)
    if path.suffix or path.is_absolute() or name.startswith("."):
        raise NetworkFileError(f"cannot read latency matrix {path}: no such file")
    return backbone(name, hosts, seed)
