"""Builds an extension from its folder: compiles its source file and adds the manifest of extension.toml to the module.

A folder holds extension.toml and one of NAME.c, NAME.zig, NAME.ts or NAME.wat. C and Zig are compiled with the Zig
toolchain (the extra `toolchain`), AssemblyScript with its own compiler (npm), WAT with wasmtime.
"""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import tomllib
from enum import StrEnum
from pathlib import Path

import msgspec
from wasmtime import WasmtimeError, wat2wasm

from cubecast.errors import ExtensionRefused
from cubecast.sandbox.abi import Manifest, check_manifest, with_manifest
from cubecast.sandbox.trusted.native import with_native_manifest

INCLUDE_FOLDER = Path(__file__).parent
"""Folder of cubecast.h."""
BUILD_S = 300.0
"""Maximum duration of a compilation, s; the Zig toolchain's first one fills its cache."""
STACK_BYTES = 64 * 1024
"""Stack of a module that is built from C, in its linear memory."""
EXPORTED_FUNCTIONS = ("cubecast_layout", "init", "process_batch")
"""Functions that every module exports."""
SOURCE_BYTES_MAX = 4 * 2**20
"""Maximum size of a source file in WAT, which is assembled in this process."""


class Language(StrEnum):
    """Languages of extensions; the value is the file's suffix."""

    C = "c"
    ZIG = "zig"
    ASSEMBLYSCRIPT = "ts"
    WAT = "wat"


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest in extension.toml.

    Raises:
        ExtensionRefused: it cannot be read or is invalid.
    """
    file = folder / "extension.toml"
    try:
        manifest = msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), Manifest)
    except OSError as error:
        raise ExtensionRefused(
            f"cannot read {file}: {error.strerror}; create one with cubecast extension new"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ExtensionRefused(f"{file}: {error}") from error
    return check_manifest(manifest)


def source_of(folder: Path, manifest: Manifest) -> tuple[Path, Language]:
    """Finds the source file and its language.

    Raises:
        ExtensionRefused: there is none, or more than one.
    """
    candidates = [(folder / f"{manifest.name}.{language}", language) for language in Language]
    found = [each for each in candidates if each[0].is_file()]
    if len(found) != 1:
        names = ", ".join(file.name for file, _ in candidates)
        raise ExtensionRefused(f"{folder} must hold exactly one of {names}; it holds {len(found)}")
    return found[0]


def build(folder: Path) -> bytes:
    """Compiles the source file; returns the module with its manifest.

    Raises:
        ExtensionRefused: a file or compiler is missing, or the compiler failed; the message holds its first error.
    """
    manifest = read_manifest(folder)
    source, language = source_of(folder.resolve(), manifest)
    with tempfile.TemporaryDirectory(prefix="cubecast-build-") as scratch:
        out = Path(scratch) / "module.wasm"
        match language:
            case Language.C:
                exports = [*EXPORTED_FUNCTIONS, *(["on_event"] if manifest.events else [])]
                _run(
                    source,
                    [
                        *zig("cc"),
                        *_C_FLAGS,
                        *(f"-Wl,--export={name}" for name in exports),
                        "-o",
                        str(out),
                        str(source),
                    ],
                )
            case Language.ZIG:
                exports = [*EXPORTED_FUNCTIONS, *(["on_event"] if manifest.events else [])]
                flags = (
                    "build-exe",
                    "-target",
                    "wasm32-freestanding",
                    "-O",
                    "ReleaseFast",
                    "-mcpu=generic+simd128+bulk_memory",
                )
                run = [
                    *zig(*flags),
                    "-fno-entry",
                    f"-femit-bin={out}",
                    *(f"--export={name}" for name in exports),
                    str(source),
                ]
                _run(source, run, folder=Path(scratch))
            case Language.ASSEMBLYSCRIPT:
                _run(source, [*_asc(folder), str(source), *_AS_FLAGS, "-o", str(out)], folder=folder)
            case Language.WAT:
                return with_manifest(_wat(source), manifest)
        return with_manifest(out.read_bytes(), manifest)


def build_native(folder: Path) -> bytes:
    """Compiles an extension in C to a shared library for this machine, with its manifest: trusted code, and for benchmarks.

    Raises:
        ExtensionRefused: it is not written in C, there is no C compiler, or the compiler failed.
    """
    manifest = read_manifest(folder)
    source, language = source_of(folder.resolve(), manifest)
    if language is not Language.C:
        raise ExtensionRefused(f"{source.name}: only extensions in C can be built as native code")
    command = native_compiler()
    with tempfile.TemporaryDirectory(prefix="cubecast-build-") as scratch:
        out = Path(scratch) / "native.so"
        _run(source, [*command, *_NATIVE_FLAGS, "-o", str(out), str(source)])
        return with_native_manifest(out.read_bytes(), manifest)


def native_compiler() -> list[str]:
    """Command of this machine's C compiler, or of the Zig toolchain's if there is none.

    Raises:
        ExtensionRefused: neither is installed.
    """
    found = shutil.which("gcc") or shutil.which("cc")
    return [found] if found else zig("cc")


def zig(*arguments: str) -> list[str]:
    """Command of the Zig toolchain.

    Raises:
        ExtensionRefused: it is not installed.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise ExtensionRefused("C and Zig need the Zig compiler; install it with: pip install 'cubecast[toolchain]'")
    return [sys.executable, "-m", "ziglang", *arguments]


_C_FLAGS = (
    "-target", "wasm32-freestanding", "-std=c11", "-O3", "-msimd128", "-mbulk-memory", "-nostdlib", "-fno-builtin",
    "-Wall", "-Wextra", "-Werror=implicit-function-declaration", f"-I{INCLUDE_FOLDER}", "-Wl,--no-entry", "-Wl,--strip-all",
    f"-Wl,-z,stack-size={STACK_BYTES}",
)  # fmt: skip
_NATIVE_FLAGS = ("-O3", "-shared", "-fPIC", "-fvisibility=hidden", f"-I{INCLUDE_FOLDER}")
_AS_FLAGS = ("--runtime", "stub", "--use", "abort=", "--optimizeLevel", "3", "--noAssert", "--enable", "simd")


def _asc(folder: Path) -> list[str]:
    """Command of AssemblyScript's compiler: from node_modules of this folder or one above it, or on the path.

    Raises:
        ExtensionRefused: it is not installed.
    """
    for above in (folder.resolve(), *folder.resolve().parents):
        if (own := above / "node_modules" / ".bin" / "asc").exists():
            return [str(own)]
    if found := shutil.which("asc"):
        return [found]
    raise ExtensionRefused(
        "AssemblyScript needs its compiler; install it in the folder with: npm install assemblyscript"
    )


def _wat(source: Path) -> bytes:
    if source.stat().st_size > SOURCE_BYTES_MAX:
        raise ExtensionRefused(f"{source} is larger than {SOURCE_BYTES_MAX} bytes")
    try:
        return bytes(wat2wasm(source.read_text(encoding="utf-8")))
    except (WasmtimeError, ValueError) as error:
        raise ExtensionRefused(f"{source.name}: {str(error).strip().splitlines()[0]}") from error


def _run(source: Path, command: list[str], folder: Path | None = None) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=BUILD_S, check=False, cwd=folder, errors="replace"
        )
    except subprocess.TimeoutExpired:
        raise ExtensionRefused(f"{source.name}: the compiler took longer than {BUILD_S:.0f} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        first = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "it gave no reason")
        raise ExtensionRefused(f"{source.name} does not build: {first.strip()}")
