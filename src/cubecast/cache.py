"""The user's cache folder: files that can be made again at any time."""

import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """Folder for one kind of cached files, in $XDG_CACHE_HOME or ~/.cache (XDG Base Directory Specification).

    The folder may not exist yet.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cubecast" / kind
