"""Begins an extension: a folder with a source that builds, and its extension.toml."""

import re
from pathlib import Path

from cubecast.errors import ExtensionRefused
from cubecast.sandbox.abi import SMALL
from cubecast.sandbox.toolchain.build import Language

TEMPLATES = Path(__file__).parent / "templates"
AS_MODULE = "cubecast.ts"
"""What cubecast.h is to C; AssemblyScript imports from the folder."""
MANIFEST = """name = "{name}"
version = "0.1.0"
about = "passes every frame on as it is"
level = "encoded"       # or decoded: planar pictures and 16-bit sound; the host decodes and encodes
failure = "bypass"      # or stop: the channel ends when this fails
tracks = ["video", "audio"]
memory_mib = 16
deadline_ms = 20
"""
SETTINGS = """
[config]
gain = "1"
"""


def begin(name: str, language: Language, folder: Path) -> Path:
    """Writes a new extension's folder.

    Returns:
        The source file.

    Raises:
        ExtensionRefused: the name is not allowed, or the folder is there.
    """
    if not re.fullmatch(SMALL, name) or len(name) > 64 or f"{name}.ts" == AS_MODULE:
        raise ExtensionRefused(
            f"{name!r} is no name for an extension; write small letters, digits and hyphens, and not cubecast"
        )
    try:
        folder.mkdir(parents=True)
        settings = SETTINGS if language in (Language.C, Language.ASSEMBLYSCRIPT) else ""
        (folder / "extension.toml").write_text(MANIFEST.format(name=name) + settings, encoding="utf-8")
        source = folder / f"{name}.{language}"
        source.write_text(
            (TEMPLATES / f"{language}.txt").read_text(encoding="utf-8").replace("NAME", name), encoding="utf-8"
        )
        if language is Language.ASSEMBLYSCRIPT:
            (folder / AS_MODULE).write_text(
                (TEMPLATES.parent / AS_MODULE).read_text(encoding="utf-8"), encoding="utf-8"
            )
    except FileExistsError:
        raise ExtensionRefused(f"{folder} is there already; choose another name or folder") from None
    except OSError as error:
        raise ExtensionRefused(f"cannot write {folder}: {error.strerror}") from error
    return source
