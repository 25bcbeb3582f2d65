"""Counts the blocks in a module's functions before it is compiled: a compiler's time and memory grow faster than they do.

A regular expression skips all instructions between two blocks at once, so a megabyte takes at most some 0.3 s; the process that
compiles does it, within its limits. Source: WebAssembly core specification, 5.4.
"""

import re

from cubecast.errors import ExtensionRefused
from cubecast.sandbox.binary import CODE, leb128, sections

BLOCKS_MAX = 50_000
"""Maximum number of blocks, loops and ifs in a module; a megabyte that a compiler made from C has half as many."""
NESTED_MAX = 2000
"""Maximum depth of nested blocks: a `switch` has one for each case, and compilers recurse or keep a stack for them."""

_LEB = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
_MEMARG = _LEB + _LEB
_PLAIN = re.compile(
    rb"(?:[\x00\x01\x05\x0f\x1a\x1b\x45-\xc4\xd1]"  # without operands
    rb"|[\x0c\x0d\x10\x20-\x26\x3f-\x42\xd0\xd2]" + _LEB + rb"|[\x11\x28-\x3e]" + _MEMARG + rb"|\x43.{4}|\x44.{8}"
    rb"|\x1c\x01[\x6f-\x7f]"  # select with a type
    rb"|\xfc(?:[\x00-\x07]|[\x09\x0b\x0d\x0f-\x11]" + _LEB + rb"|[\x08\x0a\x0c\x0e]" + _MEMARG + rb")"
    rb"|\xfd(?:[\x00-\x0b\x5c\x5d]"
    + _MEMARG
    + rb"|[\x0c\x0d].{16}|[\x15-\x22].|[\x54-\x5b]"
    + _MEMARG
    + rb".|[\x0e-\x14\x23-\x53\x5e-\x7f]|[\x80-\xff]\x01))*+",
    re.DOTALL,
)
"""Any number of instructions that are no blocks; opcodes that are written longer than needed do not match."""
_LOCALS = re.compile(_LEB + rb"[\x6f\x70\x7b-\x7f]")
_NUMBER = re.compile(_LEB)
_BLOCKS, _END, _BR_TABLE = b"\x02\x03\x04", 0x0B, 0x0E


def check_blocks(wasm: bytes) -> None:
    """Checks the number and depth of a module's blocks; the compiler checks everything else.

    Raises:
        ExtensionRefused: there are too many, or an instruction is unknown.
    """
    blocks = 0
    for section in sections(wasm):
        if section.kind != CODE:
            continue
        count, at = leb128(wasm, section.start)
        for _ in range(count):
            size, at = leb128(wasm, at)
            if at + size > section.end:
                raise ExtensionRefused("the module is truncated")
            blocks = _blocks_of(wasm, at, at + size, blocks)
            at += size


def _blocks_of(wasm: bytes, at: int, end: int, blocks: int) -> int:
    """Adds the number of blocks of one function body to `blocks`."""
    depth = 1
    runs, at = leb128(wasm, at)
    for _ in range(runs):
        at = _after(_LOCALS, wasm, at, end)
    while (at := _after(_PLAIN, wasm, at, end)) < end:
        opcode = wasm[at]
        if opcode == _END:
            depth, at = depth - 1, at + 1
        elif opcode in _BLOCKS:
            depth, blocks, at = depth + 1, blocks + 1, _after(_NUMBER, wasm, at + 1, end)
        elif opcode == _BR_TABLE:
            labels, at = leb128(wasm, at + 1)
            for _ in range(labels + 1):
                at = _after(_NUMBER, wasm, at, end)
        else:
            raise ExtensionRefused(f"it is not a valid module: an extension may not use instruction {opcode:#04x}")
        if blocks > BLOCKS_MAX:
            raise ExtensionRefused(f"it has more than {BLOCKS_MAX} blocks, loops and ifs")
        if depth > NESTED_MAX:
            raise ExtensionRefused(f"its blocks are nested more than {NESTED_MAX} deep")
    return blocks


def _after(pattern: re.Pattern[bytes], wasm: bytes, at: int, end: int) -> int:
    found = pattern.match(wasm, at, end)
    if found is None:
        raise ExtensionRefused("it is not a valid module: a function is cut or has an operand of an unknown type")
    return found.end()
