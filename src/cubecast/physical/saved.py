"""Saves networks to files and loads them, in numpy's .npz format without pickled objects."""

import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError

import numpy as np

from cubecast.errors import NetworkFileError, UsageError
from cubecast.overlay.delays import Delays
from cubecast.physical.network import PhysicalNetwork, Routes

SUFFIX = ".npz"
"""The file name must end in this."""
FORMAT = "cubecast network 1"
"""Identifies the format and its version."""


def save_network(network: PhysicalNetwork, path: Path) -> None:
    """Writes a network to a file.

    Raises:
        NetworkFileError: the file cannot be written, or its name does not end in SUFFIX.
    """
    if path.suffix != SUFFIX:
        raise NetworkFileError(f"{path} does not end in {SUFFIX}; give a name that does, so that it can be loaded")
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
    """Reads a network written by `save_network`: all of its hosts (`hosts` is None) or the first ones.

    Raises:
        NetworkFileError: the file cannot be read, or contains something else.
        UsageError: the file contains fewer hosts than requested.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            if str(file["format"]) != FORMAT:
                raise NetworkFileError(f"{path} was saved by another version; save the network again")
            delays = Delays(file["between_ms"], file["at"], file["access_ms"])
            routes = Routes(file["previous"], file["link"], file["router"], int(file["links"]))
            name = str(file["name"])
    except (
        OSError,
        EOFError,
        KeyError,
        ValueError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
        TokenError,
    ) as error:
        raise NetworkFileError(f"{path} is not a saved network; make one with: cubecast lab network") from error
    available = len(delays.at)
    if hosts is not None and not 1 <= hosts <= available:
        raise UsageError(f"{path} contains {available} hosts, but {hosts} were requested; give at most {available}")
    first = delays if hosts is None else delays._replace(at=delays.at[:hosts], access_ms=delays.access_ms[:hosts])
    return PhysicalNetwork(name, first, routes)
