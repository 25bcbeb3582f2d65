"""Encodes WebAssembly modules section by section, valid or not, with any number of anything."""

from cubecast.sandbox.abi import Manifest, with_manifest
from cubecast.sandbox.binary import MAGIC, encoded_section

TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, ELEMENT, CODE, DATA = 1, 2, 3, 4, 5, 6, 7, 9, 10, 11
"""Numbers of sections."""
TO_I32 = b"\x60\x00\x01\x7f"
"""The type of a function without parameters that returns an i32."""
NOTHING = b"\x60\x00\x00"
"""The type of a function without parameters or results."""


def number(value: int) -> bytes:
    """An unsigned LEB128 number."""
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def vector(entries: list[bytes]) -> bytes:
    """A list: the number of its entries, then these."""
    return number(len(entries)) + b"".join(entries)


def section(kind: int, entries: list[bytes]) -> bytes:
    """A section that is a list."""
    return encoded_section(kind, vector(entries))


def custom(name: str, content: bytes = b"") -> bytes:
    """A custom section."""
    return encoded_section(0, number(len(name)) + name.encode() + content)


def body(instructions: bytes) -> bytes:
    """A function's code, without local variables."""
    code = b"\x00" + instructions + b"\x0b"
    return number(len(code)) + code


def functions(*bodies: bytes, kind: bytes = NOTHING) -> bytes:
    """The sections of a module of functions of one type."""
    return (
        MAGIC
        + section(TYPE, [kind])
        + section(FUNCTION, [b"\x00"] * len(bodies))
        + section(CODE, [body(each) for each in bodies])
    )


def extension(wasm: bytes) -> bytes:
    """The module with a manifest."""
    return with_manifest(wasm, Manifest(name="test"))
