"""Whether other users of this machine can write a file or folder that decides which code runs, or who may join."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from cubecast.errors import LocalError

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
"""Mode bits that let the group or all others write."""


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
