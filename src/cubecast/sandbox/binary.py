"""The binary form of a WebAssembly module: its sections, and how many of everything it declares.

Source: WebAssembly core specification, 5.5. Sections are found by their sizes, and a section's entries are counted by the
number at its beginning, so the cost is bounded by the number of sections, whatever the module holds.
"""

from dataclasses import dataclass

from cubecast.errors import ExtensionRefused

MODULE_BYTES_MAX = 16 * 2**20
"""Maximum size of an extension's file, bytes; a larger one would take too long to compile and too much memory."""
MAGIC = b"\0asm\1\0\0\0"
"""First eight bytes of a WebAssembly module: magic number and version (core specification, 5.5.16)."""
CUSTOM_SECTIONS_MAX = 64
"""Maximum number of custom sections: names, producers and a dozen of debug information are usual; each is visited."""
NAME_BYTES_MAX = 256
"""Maximum length of the name of an import that an error quotes, bytes: it must fit into one line."""
CUSTOM, IMPORT, TABLE, CODE = 0, 2, 4, 10
"""Numbers of sections that are treated apart (core specification, 5.5.2)."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A section that is a list of entries.

    Attributes:
        what: name of its entries.
        most: maximum number of entries.
    """

    what: str
    most: int


COUNTED = {
    1: Counted("types", 1000),  # of functions; compilers merge equal ones, and each is checked against others
    IMPORT: Counted("imports", 0),  # an extension has access to nothing of its host
    3: Counted("functions", 10_000),  # each is compiled for itself and costs at least 50 us and a record
    TABLE: Counted("tables", 4),  # one for function pointers is usual; the host allocates them outside of the memory
    5: Counted("memories", 1),  # the interface has one
    6: Counted(
        "globals", 1000
    ),  # compilers keep the stack pointer and few others there; each has a slot in every instance
    7: Counted("exports", 256),  # the interface has five, runtimes of languages a dozen
    9: Counted("element segments", 1000),  # one for each table is usual; each is walked when an instance starts
    CODE: Counted("function bodies", 10_000),  # as functions
    11: Counted(
        "data segments", 4096
    ),  # AssemblyScript has one for each constant; each is walked when an instance starts
}
"""Sections that are lists, by number, each with the limit of its entries and the reason."""
OTHERS = {8: "start", 12: "data count"}
"""Other sections that an extension may have."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section: its number, and where its content begins and ends in the file."""

    kind: int
    start: int
    end: int


def sections(wasm: bytes) -> list[Section]:
    """The sections of a module, in order.

    Raises:
        ExtensionRefused: it is not a WebAssembly module, is truncated or too large, or has too many sections.
    """
    if len(wasm) > MODULE_BYTES_MAX:
        raise ExtensionRefused(f"it has {len(wasm)} bytes; at most {MODULE_BYTES_MAX} are allowed")
    if wasm[:8] != MAGIC:
        raise ExtensionRefused("it is not a WebAssembly module")
    found: list[Section] = []
    seen: set[int] = set()
    custom, at = 0, len(MAGIC)
    while at < len(wasm):
        kind, at = wasm[at], at + 1
        size, at = leb128(wasm, at)
        if at + size > len(wasm):
            raise ExtensionRefused("the module is truncated")
        custom += kind == CUSTOM
        if custom > CUSTOM_SECTIONS_MAX:
            raise ExtensionRefused(f"it has more than {CUSTOM_SECTIONS_MAX} custom sections")
        if kind != CUSTOM and (kind in seen or not (kind in COUNTED or kind in OTHERS)):
            raise ExtensionRefused(f"it is not a valid module: section {kind} is unknown or occurs twice")
        seen.add(kind)
        found.append(Section(kind, at, at + size))
        at += size
    return found


def check_counts(wasm: bytes) -> None:
    """Checks how many of everything a module declares.

    Raises:
        ExtensionRefused: as `sections`; or it imports something or has too many of something, which the message names.
    """
    for section in sections(wasm):
        counted = COUNTED.get(section.kind)
        if counted is None:
            continue
        count, at = leb128(wasm, section.start)
        if at > section.end:
            raise ExtensionRefused("the module is truncated")
        if count > counted.most and section.kind == IMPORT:
            name, at = _name(wasm, at)
            field, _ = _name(wasm, at)
            raise ExtensionRefused(f"it imports {name}.{field}; an extension may import nothing")
        if count > counted.most:
            raise ExtensionRefused(f"it has {count} {counted.what}; at most {counted.most} are allowed")


def leb128(wasm: bytes, at: int) -> tuple[int, int]:
    """Decodes an unsigned LEB128 number of at most five bytes; returns it and the offset after it.

    Raises:
        ExtensionRefused: it is longer, or the module ends within it.
    """
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(wasm):
            raise ExtensionRefused("the module is truncated")
        byte, at = wasm[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ExtensionRefused("a number in the module is too long")


def encoded_section(kind: int, body: bytes) -> bytes:
    """A section with this content, as it is in a file."""
    size, rest = b"", len(body)
    while rest >= 0x80:
        size += bytes([rest & 0x7F | 0x80])
        rest >>= 7
    return bytes([kind]) + size + bytes([rest]) + body


def custom_name(wasm: bytes, section: Section) -> bytes | None:
    """Name of a custom section if it is shorter than 128 bytes; None for others."""
    if section.kind != CUSTOM or section.start == section.end or wasm[section.start] >= 0x80:
        return None
    return wasm[section.start + 1 : min(section.end, section.start + 1 + wasm[section.start])]


def _name(wasm: bytes, at: int) -> tuple[str, int]:
    size, at = leb128(wasm, at)
    text = wasm[at : at + min(size, NAME_BYTES_MAX)].decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "?" for letter in text), at + size
