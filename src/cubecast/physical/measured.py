"""Measured networks: a square matrix of round-trip times in milliseconds from a file.

Text or .csv, plain or .gz; a header line and a first column of names are allowed. Half the RTT stands for the one-way
delay; where the two ends measured different RTTs, half of their mean.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np

from cubecast.errors import NetworkFileError, UsageError
from cubecast.physical.network import PhysicalNetwork, check_hosts, unrouted
from cubecast.types import Floats

BYTES_MAX = 1 << 30
RTT_MS_MAX = 600_000.0

Row = tuple[int, list[str]]
"""A line's number in the file, and its cells."""


def measured(path: Path, hosts: int | None, seed: int) -> PhysicalNetwork:
    """A network of all hosts of a matrix file (None), or of some: which ones is a pure function of the seed.

    Raises:
        NetworkFileError: the file cannot be read or is no RTT matrix; the line says where.
        UsageError: it holds fewer hosts than asked for.
    """
    if hosts is not None:
        check_hosts(hosts)
    rtt = read_matrix(path)
    if hosts is None:
        return unrouted(path.name, (rtt + rtt.T) / 4)
    if hosts > len(rtt):
        raise UsageError(f"{path} holds {len(rtt)} hosts, {hosts} were asked for; ask for at most {len(rtt)}")
    chosen = np.random.default_rng([seed, 490]).choice(len(rtt), size=hosts, replace=False)
    picked = rtt[np.ix_(chosen, chosen)]
    return unrouted(path.name, (picked + picked.T) / 4)


def read_matrix(path: Path) -> Floats:
    """The RTTs of a file, shape (m, m), ms; zero on the diagonal, positive elsewhere.

    Raises:
        NetworkFileError: missing, unreadable, not square, or a value that is no delay.
    """
    rows = [line for line in enumerate(_read(path).splitlines(), start=1) if line[1].strip()]
    if not rows:
        raise NetworkFileError(f"{path} is empty; give a square matrix of RTTs in ms, one host a line")
    cells, named = _strip_names([(number, _split(line)) for number, line in rows])
    matrix = np.empty((len(cells), len(cells)))
    for row, (number, texts) in enumerate(cells):
        values = texts[1:] if named else texts
        if len(values) != len(cells):
            raise NetworkFileError(
                f"{path}, line {number}: {len(values)} values where {len(cells)} rows ask for {len(cells)}; "
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
        reason = getattr(error, "strerror", None) or "not a whole gzip file"
        raise NetworkFileError(f"cannot read latency matrix {path}: {reason}") from error
    except UnicodeDecodeError as error:
        raise NetworkFileError(f"{path} is not text; give a square matrix of RTTs in ms, one host a line") from error


def _strip_names(cells: list[Row]) -> tuple[list[Row], bool]:
    """Drops a header line of names, and says whether each row begins with a name."""
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
        raise NetworkFileError(f"{path}, line {number}: {wrong[:40]!r} is no RTT in ms") from None
    for column, value in enumerate(values):
        if column == row:
            continue
        if not 0 < value <= RTT_MS_MAX:
            raise NetworkFileError(
                f"{path}, line {number}, value {column + 1}: {value:g} is no RTT; every pair needs a positive RTT in ms"
            )
    values[row] = 0.0
    return values
