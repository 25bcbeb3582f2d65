"""Creates a new extension: a folder with extension.toml and a source file that builds."""

import re
from pathlib import Path

from cubecast.errors import ExtensionRefused
from cubecast.sandbox.abi import NAME_PATTERN
from cubecast.sandbox.toolchain.build import Language

TEMPLATES = Path(__file__).parent / "templates"
"""Folder of the source files to start from, one for each language."""
AS_MODULE = "cubecast.ts"
"""AssemblyScript's counterpart of cubecast.h; it is copied into the extension's folder, from which it is imported."""
MANIFEST = """name = "{name}"
version = "0.1.0"
about = "forwards every frame unchanged"
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
"""Section of extension.toml for languages whose template reads a setting."""


def create(name: str, language: Language, folder: Path) -> Path:
    """Writes the folder of a new extension.

    Returns:
        The source file.

    Raises:
        ExtensionRefused: the name is invalid, or the folder exists or cannot be written.
    """
    if not re.fullmatch(NAME_PATTERN, name) or len(name) > 64 or f"{name}.ts" == AS_MODULE:
        raise ExtensionRefused(
            f"{name!r} is not a valid name of an extension; use lower-case letters, digits, hyphens and dots, and not cubecast"
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
        raise ExtensionRefused(f"{folder} exists already; choose another name or folder") from None
    except OSError as error:
        raise ExtensionRefused(f"cannot write {folder}: {error.strerror}") from error
    return source
