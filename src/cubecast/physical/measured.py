"""Measured networks: a square matrix of round-trip times (RTTs) in ms, read from a file.

The file is text with values separated by spaces, tabs or commas, possibly compressed with gzip. A header line and a
first column with names are allowed. The one-way delay of two hosts is half the mean of the RTTs of the two directions.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np

from cubecast.errors import NetworkFileError, UsageError
from cubecast.physical.network import PhysicalNetwork, check_hosts, unrouted
from cubecast.types import Floats

BYTES_MAX = 1 << 30
"""Maximum size of the file, before it is decompressed."""
RTT_MS_MAX = 600_000.0
"""Maximum RTT that is accepted, ms: ten minutes; a larger one is not a measurement."""

Row = tuple[int, list[str]]
"""A line of the file: its number, from 1, and its cells."""


def measured(path: Path, hosts: int | None, seed: int) -> PhysicalNetwork:
    """A network of all hosts of a matrix file (`hosts` is None), or of a random selection that `seed` determines.

    Raises:
        NetworkFileError: the file cannot be read or contains no RTT matrix; the text names the line.
        UsageError: the file contains fewer hosts than requested.
    """
    if hosts is not None:
        check_hosts(hosts)
    rtt = read_matrix(path)
    if hosts is None:
        return unrouted(path.name, (rtt + rtt.T) / 4)
    if hosts > len(rtt):
        raise UsageError(f"{path} contains {len(rtt)} hosts, but {hosts} were requested; give at most {len(rtt)}")
    chosen = np.random.default_rng([seed, 490]).choice(len(rtt), size=hosts, replace=False)
    picked = rtt[np.ix_(chosen, chosen)]
    return unrouted(path.name, (picked + picked.T) / 4)


def read_matrix(path: Path) -> Floats:
    """The RTTs in a file, shape (m, m), ms; zero on the diagonal, positive elsewhere.

    Raises:
        NetworkFileError: the file is missing or unreadable, the matrix is not square, or a value is not an RTT.
    """
    rows = [line for line in enumerate(_read(path).splitlines(), start=1) if line[1].strip()]
    if not rows:
        raise NetworkFileError(f"{path} is empty; give a square matrix of RTTs in ms, one line per host")
    cells, named = _strip_names([(number, _split(line)) for number, line in rows])
    matrix = np.empty((len(cells), len(cells)))
    for row, (number, texts) in enumerate(cells):
        values = texts[1:] if named else texts
        if len(values) != len(cells):
            raise NetworkFileError(
                f"{path}, line {number}: {len(values)} values in a matrix of {len(cells)} rows; "
                f"the matrix must be square"
            )
        matrix[row] = _parse_row(path, number, row, values)
    return matrix


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > BYTES_MAX:
            raise NetworkFileError(f"{path} is larger than 1 GiB; give a smaller matrix")
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        return raw.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "not a complete gzip file"
        raise NetworkFileError(f"cannot read latency matrix {path}: {reason}") from error
    except UnicodeDecodeError as error:
        raise NetworkFileError(f"{path} is not text; give a square matrix of RTTs in ms, one line per host") from error


def _strip_names(cells: list[Row]) -> tuple[list[Row], bool]:
    """The rows without a header line, and whether each row begins with a name."""
    first = cells[0][1]
    header = len(cells) > 1 and len(first) > 1 and (not first[0] or not any(_is_number(text) for text in first))
    rows = cells[1:] if header else cells
    named = len(rows[0][1]) == len(rows) + 1 and (header or not any(_is_number(texts[0]) for _, texts in rows))
    return rows, named


def _split(line: str) -> list[str]:
    parts = line.split(",") if "," in line else line.split()
    return [part.strip().strip('"') for part in parts]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parse_row(path: Path, number: int, row: int, texts: list[str]) -> Floats:
    try:
        values: Floats = np.array([float(text) for text in texts])
    except ValueError:
        wrong = next(text for text in texts if not _is_number(text))
        raise NetworkFileError(f"{path}, line {number}: {wrong[:40]!r} is not an RTT in ms") from None
    for column, value in enumerate(values):
        if column == row:
            continue
        if not 0 < value <= RTT_MS_MAX:
            raise NetworkFileError(
                f"{path}, line {number}, value {column + 1}: {value:g} is no RTT; every pair needs a positive RTT in ms"
            )
    values[row] = 0.0
    return values
