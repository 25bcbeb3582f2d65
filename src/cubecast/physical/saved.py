"""Networks saved to a file and loaded again: numpy's .npz, without pickles."""

import zipfile
from pathlib import Path

import numpy as np

from cubecast.errors import NetworkFileError, UsageError
from cubecast.overlay.delays import Delays
from cubecast.physical.network import PhysicalNetwork, Routes

SUFFIX = ".npz"
FORMAT = "cubecast network 1"


def save_network(network: PhysicalNetwork, path: Path) -> None:
    """Writes a network; the same network gives the same arrays.

    Raises:
        NetworkFileError: the file cannot be written, or its name does not end in .npz.
    """
    if path.suffix != SUFFIX:
        raise NetworkFileError(f"{path} does not end in {SUFFIX}; name it so, that it can be loaded again")
    try:
        np.savez_compressed(
            path,
            format=np.array(FORMAT),
            name=np.array(network.name),
            links=np.array(network.routes.links),
            **network.delays._asdict(),
            **{field: getattr(network.routes, field) for field in ("previous", "link", "router")},
        )
    except OSError as error:
        raise NetworkFileError(f"cannot write {path}: {error.strerror}") from error


def load_saved(path: Path, hosts: int | None) -> PhysicalNetwork:
    """Reads a network that `save_network` wrote, or the first hosts of it.

    Raises:
        NetworkFileError: it cannot be read, or holds something else.
        UsageError: it holds fewer hosts than asked for.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["format"]) != FORMAT:
                raise NetworkFileError(f"{path} was saved by another version; save the network again")
            delays = Delays(file["between_ms"], file["at"], file["access_ms"])
            routes = Routes(file["previous"], file["link"], file["router"], int(file["links"]))
            name = str(file["name"])
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise NetworkFileError(f"{path} is no saved network; make one with: cubecast lab network") from error
    held = len(delays.at)
    if hosts is not None and not 1 <= hosts <= held:
        raise UsageError(f"{path} holds {held} hosts, {hosts} were asked for; ask for at most {held}")
    first = delays if hosts is None else delays._replace(at=delays.at[:hosts], access_ms=delays.access_ms[:hosts])
    return PhysicalNetwork(name, first, routes)
