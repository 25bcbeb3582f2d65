"""The modules of WebAssembly's own test suite against the sandbox: each ends in a result or a typed error.

    python bench/spec_suite.py [FOLDER]

FOLDER, or the variable WASM_TESTSUITE, is a checkout of WebAssembly/testsuite. Without one the copy of it that lies in an npm
package is taken; where there is no npm either, this says that it is skipped. Valid modules, invalid and malformed ones are all
tried, in text, binary and quoted form.
"""

import argparse
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from wasmtime import WasmtimeError, wat2wasm

from cubecast.errors import ExtensionRefused
from cubecast.sandbox.abi import Manifest, with_manifest
from cubecast.sandbox.wasm.engine import deadlines
from fuzz import outcome

PACKAGE = "wasm-json-toolkit@0.3.0"
SHA256 = "e8d03b686e18a6fa3392c0128e8382e9316cae8a6f89b922be6d6a674b33d11e"
INSIDE = re.compile(r"package/test/testsuite/(proposals/[a-z-]+/)?[^/]+\.wast")
FETCH_S = 120.0
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|;;[^\n]*|\(;|;\)|[()]', re.DOTALL)
ESCAPE = re.compile(rb'\\([0-9a-fA-F]{2}|u\{[0-9a-fA-F]+\}|[tnr"\'\\])')
PLAIN = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b'"': b'"', b"'": b"'", b"\\": b"\\"}
KINDS = re.compile(r"\(module\s+(?:definition\s+)?(?:\$\S+\s+)?(binary|quote)\b")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=os.environ.get("WASM_TESTSUITE"))
    folder = parser.parse_args().folder
    if folder is None:
        found = packaged()
        if isinstance(found, str):
            print(f"spec suite: skipped: {found}; name a checkout of WebAssembly/testsuite, or set WASM_TESTSUITE")
            return 0
        scripts = found
    else:
        scripts = [file.read_text(encoding="utf-8", errors="replace") for file in sorted(Path(folder).glob("*.wast"))]
    if not scripts:
        print(f"spec suite: {folder} holds no .wast file; give a checkout of WebAssembly/testsuite", file=sys.stderr)
        return 2
    ended: Counter[str] = Counter()
    with deadlines():
        for script in scripts:
            for form in modules(script):
                ended[tried(form)] += 1
    print(
        f"spec suite: {sum(ended.values())} modules of {len(scripts)} files: {dict(sorted(ended.items()))}; the host lives"
    )
    return 0


def packaged() -> list[str] | str:
    """The scripts in the npm package, or why there are none."""
    npm = shutil.which("npm")
    if npm is None:
        return "there is no npm to fetch its copy with"
    with tempfile.TemporaryDirectory(prefix="cubecast-spec-") as scratch:
        try:
            done = subprocess.run(
                [npm, "pack", "--silent", PACKAGE], cwd=scratch, capture_output=True, timeout=FETCH_S, check=False
            )
        except subprocess.TimeoutExpired:
            return f"npm took more than {FETCH_S:.0f} s to fetch {PACKAGE}"
        archives = list(Path(scratch).glob("*.tgz"))
        if done.returncode or not archives:
            return f"npm cannot fetch {PACKAGE}"
        content = archives[0].read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        return f"{PACKAGE} is not the file it was"
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        names = sorted(name for name in archive.getnames() if INSIDE.fullmatch(name))
        return [opened.read().decode(errors="replace") for name in names if (opened := archive.extractfile(name))]


def modules(text: str) -> Iterator[str]:
    """Every (module ...) form in a script, wherever it stands."""
    depth, comment, begun = 0, 0, []
    for token in TOKEN.finditer(text):
        match token.group():
            case "(;":
                comment += 1
            case ";)":
                comment = max(0, comment - 1)
            case "(" if not comment:
                depth += 1
                if re.match(r"\(\s*module\b", text[token.start() :]):
                    begun.append((depth, token.start()))
            case ")" if not comment:
                if begun and begun[-1][0] == depth:
                    yield text[begun.pop()[1] : token.end()]
                depth -= 1


def tried(form: str) -> str:
    """How the sandbox ends with a module."""
    try:
        return outcome(with_manifest(assembled(form), Manifest(name="spec", memory_mib=16, deadline_ms=20)))
    except ExtensionRefused:
        return "refused"
    except (WasmtimeError, ValueError):
        return "no module: its text does not assemble"


def assembled(form: str) -> bytes:
    """A form as a module; invalid ones too, as far as an assembler makes them."""
    kind = KINDS.match(form)
    if kind is None:
        return bytes(wat2wasm(form))
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', form, re.DOTALL)
    content = b"".join(ESCAPE.sub(_unescaped, each.encode()) for each in strings)
    return content if kind[1] == "binary" else bytes(wat2wasm(b"(module " + content + b")"))


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if code in PLAIN:
        return PLAIN[code]
    if code.startswith(b"u"):
        return chr(int(code[2:-1], 16)).encode("utf-8", errors="replace")
    return bytes([int(code, 16)])


if __name__ == "__main__":
    sys.exit(main())
