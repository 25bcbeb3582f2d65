"""Faults injected into the emulated network while it runs: one JSON object per line on the delay stage's standard input."""

from typing import TypeAlias

import msgspec

from cubecast.errors import UsageError


class Slower(msgspec.Struct, frozen=True, tag="slower", tag_field="fault", forbid_unknown_fields=True):
    """Adds `by_ms` to the one-way delay between hosts `a` and `b`, in both directions; negative values undo it."""

    a: int
    b: int
    by_ms: float


class Island(msgspec.Struct, frozen=True, tag="island", tag_field="fault", forbid_unknown_fields=True):
    """Cuts these hosts off from all others; an empty list reconnects everyone."""

    hosts: tuple[int, ...] = ()


class SetImpairment(msgspec.Struct, frozen=True, tag="impairment", tag_field="fault", forbid_unknown_fields=True):
    """Replaces the jitter and loss of all links (cubecast.emulator.delays.Impairment); the defaults remove both."""

    jitter_ms: float = 0.0
    loss: float = 0.0


class Hidden(msgspec.Struct, frozen=True, tag="hidden", tag_field="fault", forbid_unknown_fields=True):
    """Puts these hosts behind a NAT: they can dial but cannot be dialled; an empty list makes all hosts reachable."""

    hosts: tuple[int, ...] = ()


Fault: TypeAlias = Slower | Island | SetImpairment | Hidden

_decoder: msgspec.json.Decoder[Fault] = msgspec.json.Decoder(Fault)


def encode(fault: Fault) -> str:
    """The line of JSON that requests the fault."""
    return msgspec.json.encode(fault).decode()


def decode(line: bytes) -> Fault:
    """The fault that a line requests.

    Raises:
        UsageError: the line is no JSON object, or names an unknown fault or field.
    """
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"not a fault: {error}; an example is {encode(Slower(0, 1, 100.0))}") from error
