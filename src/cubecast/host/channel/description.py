"""The description of a channel: its tracks, and its end once it has ended; signed by the publisher, sent as JSON."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from cubecast.engine.protocol.ranges import END, Number
from cubecast.errors import RemoteError
from cubecast.frames import Kind, TrackFormat
from cubecast.host.channel.records import DIGEST_BYTES_MAX, TRACKS_MAX, Counts, EndRecord, LastGroups
from cubecast.host.channel.signing import FORMAT, ChannelSigner

EXTRADATA_CHARACTERS_MAX = 1 << 20
"""Maximum length of a codec's configuration in a format, in base64: that of video is some 100 bytes, a font's may be long."""
FRAME_RATE_MAX = 1e6
"""Greatest frame rate that is accepted, Hz."""
SAMPLE_RATE_MAX = 1 << 31
"""Greatest sample rate that is accepted, Hz."""
CHANNELS_MAX = 1024
"""Greatest number of audio channels that is accepted."""
Pixels: TypeAlias = Annotated[int, Meta(ge=0, le=65_536)]
"""Width or height of a picture: codecs carry 65 536 at most."""
VERSION = 2
"""Of the description and of the timing records. Others are refused: the publishers of version 1 signed nothing."""


class _TrackDescription(msgspec.Struct, frozen=True):
    kind: Kind
    codec: Annotated[str, Meta(max_length=32, pattern=rf"^[A-Za-z0-9_-]+{END}")]
    extradata: Annotated[str, Meta(max_length=EXTRADATA_CHARACTERS_MAX, pattern=rf"^[A-Za-z0-9+/=]*{END}")] = ""
    width: Pixels = 0
    height: Pixels = 0
    frame_rate: Annotated[float, Meta(ge=0, le=FRAME_RATE_MAX)] = 0.0
    sample_rate: Annotated[int, Meta(ge=0, le=SAMPLE_RATE_MAX)] = 0
    channels: Annotated[int, Meta(ge=0, le=CHANNELS_MAX)] = 0


class _Version(msgspec.Struct, frozen=True):
    version: Number


class _Description(msgspec.Struct, frozen=True):
    version: Number
    publication: Number
    tracks: Annotated[tuple[_TrackDescription, ...], Meta(max_length=TRACKS_MAX)]
    frames: Counts | None = None
    groups: LastGroups = ()
    """`frames` and `groups` as in EndRecord, once the channel has ended."""
    signature: Annotated[str, Meta(max_length=2 * DIGEST_BYTES_MAX, pattern=rf"^[0-9a-f]*{END}")] = ""
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
    except (msgspec.ValidationError, ValueError, RecursionError) as error:
        raise RemoteError(f"the channel's format is malformed: {error}") from error
    if not 0 < len(tracks) <= TRACKS_MAX:
        raise RemoteError(f"the channel has {len(tracks)} tracks; 1 to {TRACKS_MAX} are possible")
    end = None if described.frames is None else EndRecord(described.frames, described.groups)
    return Description(described.publication, tracks, end, signature, described.signed_content())
