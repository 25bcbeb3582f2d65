"""Trusted Python extensions, signed with a key of this run."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cubecast.sandbox.loading import Extension, load
from cubecast.sandbox.trusted.signatures import sign
from cubecast.sandbox.trusted.worker import WorkerInstance
from tests.sandbox.modules import TRACKS

KEY = Ed25519PrivateKey.generate()
MANIFEST = 'MANIFEST = {"name": "mine", "deadline_ms": 100, "config": {"a": "1"}, "events": ["timer"]}\n'
PASS = "def process_batch(frames):\n    return frames\n"
EVENT = "def on_event(kind, time_us, value):\n    return None\n"


def signed(file: Path) -> Extension:
    """Signs a file of trusted code with KEY and loads it."""
    file.with_name(f"{file.name}.sig").write_text(sign(file.read_bytes(), KEY))
    keys = file.parent / "keys"
    keys.write_text(KEY.public_key().public_bytes_raw().hex())
    return load(str(file), trusted=keys)


def extension(source: str, folder: Path) -> Extension:
    """An extension with this source."""
    file = folder / "mine.py"
    file.write_text(source)
    return signed(file)


def worker(source: str, folder: Path) -> WorkerInstance:
    """An instance of this source, to which MANIFEST and EVENT are added."""
    made = extension(MANIFEST + source + EVENT, folder).make(TRACKS, {})
    assert isinstance(made, WorkerInstance)
    return made
