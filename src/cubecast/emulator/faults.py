"""Faults of the network while it runs: one JSON object a line on the delay stage's standard input."""

from typing import TypeAlias

import msgspec

from cubecast.errors import UsageError


class Slower(msgspec.Struct, frozen=True, tag="slower", tag_field="fault"):
    """Between two hosts every datagram takes longer from now on, either way; negative takes it back."""

    a: int
    b: int
    by_ms: float


class Island(msgspec.Struct, frozen=True, tag="island", tag_field="fault"):
    """These hosts are cut off from all others; none heals the network."""

    hosts: tuple[int, ...] = ()


class Weather(msgspec.Struct, frozen=True, tag="weather", tag_field="fault"):
    """All links jitter and lose datagrams so from now on (cubecast.emulator.delays.Impairment)."""

    jitter_ms: float = 0.0
    loss: float = 0.0


class Hidden(msgspec.Struct, frozen=True, tag="hidden", tag_field="fault"):
    """These hosts are behind a NAT that lets nobody in: they can dial and not be dialled; none opens all."""

    hosts: tuple[int, ...] = ()


Fault: TypeAlias = Slower | Island | Weather | Hidden

_decoder: msgspec.json.Decoder[Fault] = msgspec.json.Decoder(Fault)


def encode(fault: Fault) -> str:
    """The line that asks for a fault."""
    return msgspec.json.encode(fault).decode()


def decode(line: bytes) -> Fault:
    """The fault a line asks for.

    Raises:
        UsageError: it is none.
    """
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"no fault: {error}; one is {encode(Slower(0, 1, 100.0))}") from error
