"""Whether other users of this machine can write files that decide which code runs or who may join, or read secrets."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from cubecast.errors import LocalError

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
"""Mode bits that let the group or all others write."""
OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO
"""Mode bits that let the group or all others do anything."""
PRIVATE = 0o600
"""Mode of a file that only its owner can read and write."""


def check_not_writable_by_others(path: Path) -> None:
    """Checks the mode and owner of a file or folder, and that others cannot replace it in the folder that it is in.

    One that cannot be examined passes: opening it says why.

    Raises:
        LocalError: others can write or replace it; the message says what to do.
    """
    folder = path.absolute().parent
    with suppress(OSError, ValueError):
        mode = folder.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise LocalError(
                f"other users can replace {path}, because they can write its folder (mode {stat.S_IMODE(mode):o}); "
                f"check what it holds, then: chmod o-w {folder}"
            )
        found = path.stat()
        if found.st_uid not in (os.geteuid(), 0):
            raise LocalError(f"{path} belongs to another user, who can write it; use one of your own")
        if found.st_mode & WRITABLE_BY_OTHERS:
            raise LocalError(
                f"other users can write {path} (mode {stat.S_IMODE(found.st_mode):o}); "
                f"check what it holds, then: chmod go-w {path}"
            )


def check_secret(path: Path) -> None:
    """Checks that others can neither read nor write a file that contains a secret.

    One that cannot be examined passes: opening it says why.

    Raises:
        LocalError: others can; the message says what to do.
    """
    check_not_writable_by_others(path)
    with suppress(OSError, ValueError):
        mode = path.stat().st_mode
        if mode & OPEN_TO_OTHERS:
            raise LocalError(
                f"other users can read {path} (mode {stat.S_IMODE(mode):o}) and use the secret in it; remove the file to get a "
                f"new one, or if nobody else has read it: chmod 600 {path}"
            )


def write_secret(path: Path, content: bytes) -> None:
    """Writes a file that only its owner can read, whatever the umask is and whatever was there.

    The file is replaced as a whole: a process killed at any moment leaves the one before or the new one, on disk.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # of mode 0600 from the start
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, PRIVATE)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        Path(partial).replace(path)
    except OSError:
        Path(partial).unlink(missing_ok=True)
        raise


def make_private(path: Path) -> None:
    """Creates an empty file that only its owner can read and write; of one that is there, takes the others' rights.

    Raises:
        OSError: it cannot be created, or its mode cannot be changed.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE)
    except FileExistsError:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) and mode & OPEN_TO_OTHERS:
            path.chmod(stat.S_IMODE(mode) & ~OPEN_TO_OTHERS)
    else:
        os.fchmod(descriptor, PRIVATE)
        os.close(descriptor)
