"""Builds an extension's folder: its one source file by the compiler of its language, its extension.toml into the module.

C and Zig are built by the Zig toolchain (the extra `toolchain`), AssemblyScript by its own compiler (npm), WAT by
wasmtime. A folder holds extension.toml and NAME.c, NAME.zig, NAME.ts or NAME.wat.
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
from cubecast.sandbox.trusted.native import with_tail

HEADER = Path(__file__).parent
BUILD_S = 300.0
STACK_BYTES = 64 * 1024
EXPORTS = ("memory", "cubecast_layout", "init", "process_batch")
SOURCE_BYTES_MAX = 4 * 2**20


class Language(StrEnum):
    """What an extension may be written in; the value is the file's ending."""

    C = "c"
    ZIG = "zig"
    ASSEMBLYSCRIPT = "ts"
    WAT = "wat"


def read_manifest(folder: Path) -> Manifest:
    """What extension.toml says.

    Raises:
        ExtensionRefused: there is none, or it is not in order.
    """
    file = folder / "extension.toml"
    try:
        manifest = msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), Manifest)
    except OSError as error:
        raise ExtensionRefused(f"cannot read {file}: {error.strerror}; cubecast extension new makes one") from error
    except (ValueError, RecursionError) as error:
        raise ExtensionRefused(f"{file}: {error}") from error
    return check_manifest(manifest)


def source_of(folder: Path, manifest: Manifest) -> tuple[Path, Language]:
    """The source file and its language.

    Raises:
        ExtensionRefused: there is none, or more than one.
    """
    found = [(folder / f"{manifest.name}.{language}", language) for language in Language]
    there = [each for each in found if each[0].is_file()]
    if len(there) != 1:
        names = ", ".join(file.name for file, _ in found)
        raise ExtensionRefused(f"{folder} must hold one of {names}; it holds {len(there)}")
    return there[0]


def build(folder: Path) -> bytes:
    """The module, with its manifest in it.

    Raises:
        ExtensionRefused: something is missing, or the compiler refuses; its first complaint is told.
    """
    manifest = read_manifest(folder)
    source, language = source_of(folder.resolve(), manifest)
    with tempfile.TemporaryDirectory(prefix="cubecast-build-") as scratch:
        out = Path(scratch) / "module.wasm"
        match language:
            case Language.C:
                exports = [*EXPORTS, *(["on_event"] if manifest.events else [])]
                _run(
                    source,
                    [
                        *zig("cc"),
                        *_C_FLAGS,
                        *(f"-Wl,--export={name}" for name in exports[1:]),
                        "-o",
                        str(out),
                        str(source),
                    ],
                )
            case Language.ZIG:
                exports = [*EXPORTS[1:], *(["on_event"] if manifest.events else [])]
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
    """A shared library for this machine, from C, with its manifest behind it: trusted code, or the sandbox's measure.

    Raises:
        ExtensionRefused: it is not written in C, or no C compiler is there, or it refuses.
    """
    manifest = read_manifest(folder)
    source, language = source_of(folder.resolve(), manifest)
    if language is not Language.C:
        raise ExtensionRefused(f"{source.name}: only C has a native build")
    command = native_compiler()
    with tempfile.TemporaryDirectory(prefix="cubecast-build-") as scratch:
        out = Path(scratch) / "native.so"
        _run(source, [*command, *_NATIVE_FLAGS, "-o", str(out), str(source)])
        return with_tail(out.read_bytes(), manifest)


def native_compiler() -> list[str]:
    """The command line of this machine's C compiler; the Zig toolchain's where there is none.

    Raises:
        ExtensionRefused: that is not there either.
    """
    found = shutil.which("gcc") or shutil.which("cc")
    return [found] if found else zig("cc")


def zig(*arguments: str) -> list[str]:
    """The Zig toolchain's command line.

    Raises:
        ExtensionRefused: it is not installed.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise ExtensionRefused("C and Zig need the Zig compiler; install it with: pip install 'cubecast[toolchain]'")
    return [sys.executable, "-m", "ziglang", *arguments]


_C_FLAGS = (
    "-target", "wasm32-freestanding", "-std=c11", "-O3", "-msimd128", "-mbulk-memory", "-nostdlib", "-fno-builtin",
    "-Wall", "-Wextra", "-Werror=implicit-function-declaration", f"-I{HEADER}", "-Wl,--no-entry", "-Wl,--strip-all",
    f"-Wl,-z,stack-size={STACK_BYTES}",
)  # fmt: skip
_NATIVE_FLAGS = ("-O3", "-shared", "-fPIC", "-fvisibility=hidden", f"-I{HEADER}")
_AS_FLAGS = ("--runtime", "stub", "--use", "abort=", "--optimizeLevel", "3", "--noAssert", "--enable", "simd")


def _asc(folder: Path) -> list[str]:
    """AssemblyScript's compiler: the project's own, or one on the path.

    Raises:
        ExtensionRefused: there is none.
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
        first = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "no word why")
        raise ExtensionRefused(f"{source.name} does not build: {first.strip()}")
