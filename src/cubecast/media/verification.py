"""Checks that a file is playable by decoding all of its frames."""

import av

from cubecast.errors import MediaError
from cubecast.frames import Kind


def count_decodable(path: str) -> dict[Kind, int]:
    """The number of decoded frames of a file, by kind.

    Raises:
        MediaError: it cannot be opened, or a frame does not decode.
    """
    counts = {Kind.VIDEO: 0, Kind.AUDIO: 0}
    try:
        with av.open(path) as container:
            streams = [stream for stream in container.streams if stream.type in ("video", "audio")]
            for packet in container.demux(streams):
                counts[Kind(packet.stream.type)] += len(packet.decode())
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(f"{path} does not decode: {getattr(error, 'strerror', error)}") from error
    return counts
