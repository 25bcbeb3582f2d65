"""The ranges of what hosts, super-node and files say: types of fields that msgspec checks as it decodes.

NaN and the infinities are in no range. `$` alone would also match before a last newline, hence `END`.
"""

from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from cubecast.errors import MessageError
from cubecast.names import NAME_MAX
from cubecast.overlay.cube import LABELS_MAX
from cubecast.texts import TEXT_MAX, UNPRINTABLE
from cubecast.types import ChannelName, HostId, Label

T = TypeVar("T")

END = r"$(?!\n)"
"""End of a text, in a pattern."""
INTEGER_MAX = (1 << 62) - 1
"""Largest integer that is accepted: what QUIC's variable-length integers hold (RFC 9000, 16); sums of two fit 64 bits."""
NUMBER_MAX = 1e12
"""Largest delay, rate or bound in a message (ms, bit/s); as a bound or a rate it stands for no limit."""
SEQNO_MAX = 1 << 53
"""Largest sequence number: they are milliseconds since the Unix epoch, and floats hold them exactly up to here."""
HOPS_MAX = 256
"""Maximum number of hosts in an accepted path or trail; the diameters of live cubes are far below."""
ADDRESS_MAX = 262
"""Maximum length of an address, characters: 253 of a host name, brackets or a colon, and a port."""
TOKEN_MAX = 8192
"""Maximum length of a token or credential, characters, as cubecast.tokens.jws has it."""
LISTED_MAX = 1 << 20
"""Maximum number of entries of a list that describes the whole overlay: as many hosts as the lab routes among."""

_NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
Name: TypeAlias = Annotated[str, Meta(max_length=NAME_MAX, pattern=f"^{_NAME}{END}")]
"""What a host or channel may be called, as cubecast.names allows it."""
HostName: TypeAlias = Annotated[HostId, Meta(max_length=NAME_MAX, pattern=f"^{_NAME}{END}")]
"""A host's name."""
HostNameOrNone: TypeAlias = Annotated[HostId, Meta(max_length=NAME_MAX, pattern=f"^({_NAME})?{END}")]
"""The same, or NOBODY."""
Channel: TypeAlias = Annotated[ChannelName, Meta(max_length=NAME_MAX, pattern=f"^{_NAME}{END}")]
"""A channel's name."""
ChannelOrNone: TypeAlias = Annotated[ChannelName, Meta(max_length=NAME_MAX, pattern=f"^({_NAME})?{END}")]
"""The same, or NO_CHANNEL."""
Text: TypeAlias = Annotated[str, Meta(max_length=TEXT_MAX, pattern=f"^[^{UNPRINTABLE}]*{END}")]
"""A line for the user."""
Spelling: TypeAlias = Annotated[str, Meta(max_length=NAME_MAX, pattern=rf"^[0-9a-z.^-]*{END}")]
"""A label spelled in digits, or the shape of a cube; may be empty."""
Address: TypeAlias = Annotated[str, Meta(max_length=ADDRESS_MAX, pattern=rf"^[A-Za-z0-9.:\[\]-]+:[0-9]{{1,5}}{END}")]
"""HOST:PORT; cubecast.names says more exactly what may be dialled."""
AddressOrNone: TypeAlias = Annotated[
    str, Meta(max_length=ADDRESS_MAX, pattern=rf"^([A-Za-z0-9.:\[\]-]+:[0-9]{{1,5}})?{END}")
]
"""The address of a host's data plane; empty for a host whose address is not proved."""
Hex32: TypeAlias = Annotated[str, Meta(pattern=rf"^[0-9a-f]{{64}}{END}")]
"""32 bytes in hex: a SHA-256 digest, or an Ed25519 public key."""
Hex32OrNone: TypeAlias = Annotated[str, Meta(pattern=rf"^([0-9a-f]{{64}})?{END}")]
"""A public key in hex; empty where there is none."""
Signature: TypeAlias = Annotated[str, Meta(pattern=rf"^([0-9a-f]{{128}})?{END}")]
"""An Ed25519 signature in hex, or nothing."""
Token: TypeAlias = Annotated[str, Meta(max_length=TOKEN_MAX, pattern=rf"^[A-Za-z0-9._=-]*{END}")]
"""A token or credential; may be empty."""

Number: TypeAlias = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
"""A count, version, epoch, or number of a request."""
Place: TypeAlias = Annotated[Label, Meta(ge=0, le=LABELS_MAX - 1)]
"""A label. Whether the receiver's cube has it, the receiver checks."""
Seqno: TypeAlias = Annotated[int, Meta(ge=0, le=SEQNO_MAX)]
"""A sequence number, or the number of a publication."""
Hops: TypeAlias = Annotated[int, Meta(ge=0, le=HOPS_MAX)]
"""A number of requests or hosts."""

Amount: TypeAlias = Annotated[float, Meta(ge=0, le=NUMBER_MAX)]
"""A delay, ms, or a rate, bit/s."""
Signed: TypeAlias = Annotated[float, Meta(ge=-NUMBER_MAX, le=NUMBER_MAX)]
"""A difference of clocks, what is left of a bound, ms, or a time, s."""
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
"""A share of packets or frames."""

Path: TypeAlias = Annotated[tuple[HostName, ...], Meta(min_length=1, max_length=HOPS_MAX)]
"""Hosts one after the other, one at least."""
PathOrNone: TypeAlias = Annotated[tuple[HostName, ...], Meta(max_length=HOPS_MAX)]
"""The same, or none."""
DelaysByHost: TypeAlias = Annotated[dict[HostName, Amount], Meta(max_length=LISTED_MAX)]
"""Delays of links, ms, by the host at the other end; how many fit, the size of the body says."""


def decoded(content: bytes | str, kind: type[T]) -> T:
    """A value of this type from JSON that somebody else wrote.

    Raises:
        MessageError: not JSON, too deeply nested, or a field of the wrong type or out of range.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise MessageError(str(error)) from error
