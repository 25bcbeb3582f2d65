"""The description of a channel: its tracks, and its end once it has ended; signed by the publisher, sent as JSON."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from cubecast.errors import RemoteError
from cubecast.frames import Kind, TrackFormat
from cubecast.host.channel.records import EndRecord
from cubecast.host.channel.signing import FORMAT, ChannelSigner

TRACKS_MAX = 16
"""Maximum number of tracks of one channel; a description of more is refused."""
VERSION = 2
"""Of the description and of the timing records. Others are refused: the publishers of version 1 signed nothing."""


class _TrackDescription(msgspec.Struct, frozen=True):
    kind: Kind
    codec: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    extradata: str = ""
    width: int = 0
    height: int = 0
    frame_rate: float = 0.0
    sample_rate: int = 0
    channels: int = 0


class _Version(msgspec.Struct, frozen=True):
    version: int


class _Description(msgspec.Struct, frozen=True):
    version: int
    publication: int
    tracks: tuple[_TrackDescription, ...]
    frames: tuple[int, ...] | None = None
    groups: tuple[int, ...] = ()
    """`frames` and `groups` as in EndRecord, once the channel has ended."""
    signature: str = ""
    """Hex; over all else."""

    def signed_content(self) -> bytes:
        """What the signature is over."""
        return msgspec.msgpack.encode(msgspec.structs.replace(self, signature=""))


@dataclass(frozen=True, slots=True)
class Description:
    """A description as it has arrived; nothing in it counts before its signature is checked.

    Attributes:
        end: the end of the channel; None before it.
        content: what the signature is over.
    """

    publication: int
    tracks: tuple[TrackFormat, ...]
    end: EndRecord | None
    signature: bytes
    content: bytes


def describe(tracks: Sequence[TrackFormat], signer: ChannelSigner, end: EndRecord | None = None) -> object:
    """The signed description of a channel, for JSON."""
    described = _Description(
        VERSION,
        signer.publication.number,
        tuple(
            _TrackDescription(
                t.kind,
                t.codec,
                base64.b64encode(t.extradata).decode(),
                t.width,
                t.height,
                t.frame_rate,
                t.sample_rate,
                t.channels,
            )
            for t in tracks
        ),
        None if end is None else end.frames,
        () if end is None else end.groups,
    )
    signature = signer.sign(FORMAT, described.signed_content()).hex()
    return msgspec.to_builtins(msgspec.structs.replace(described, signature=signature))


def parse_description(value: object) -> Description:
    """A channel's description.

    Raises:
        RemoteError: it is malformed, or of another version.
    """
    try:
        version = msgspec.convert(value, _Version).version
        if version != VERSION:
            raise RemoteError(
                f"the publisher's format has version {version}, this host reads {VERSION}; "
                "use the same version of cubecast at both"
            )
        described = msgspec.convert(value, _Description)
        tracks = tuple(
            TrackFormat(
                t.kind,
                t.codec,
                base64.b64decode(t.extradata, validate=True),
                t.width,
                t.height,
                t.frame_rate,
                t.sample_rate,
                t.channels,
            )
            for t in described.tracks
        )
        signature = bytes.fromhex(described.signature)
    except (msgspec.ValidationError, ValueError) as error:
        raise RemoteError(f"the channel's format is malformed: {error}") from error
    if not 0 < len(tracks) <= TRACKS_MAX:
        raise RemoteError(f"the channel has {len(tracks)} tracks; 1 to {TRACKS_MAX} are possible")
    end = None if described.frames is None else EndRecord(described.frames, described.groups)
    return Description(described.publication, tracks, end, signature, described.signed_content())
