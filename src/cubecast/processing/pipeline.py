"""A stream's way through one extension: what it is not given passes by, and plain frames are decoded and encoded around it."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from cubecast.errors import ExtensionRefused, MediaError
from cubecast.frames import EncodedFrame, TrackFormat
from cubecast.media.levels import PICTURE, SOUND, TrackDecoder, TrackEncoder
from cubecast.sandbox.abi import Level
from cubecast.sandbox.loading import Extension
from cubecast.sandbox.supervision import RunningExtension
from cubecast.sandbox.upcalls import Upcall


class Pipeline:
    """One extension at work on the frames of one stream."""

    def __init__(
        self, extension: Extension, tracks: Sequence[TrackFormat], config: Mapping[str, str], clock: Callable[[], float]
    ) -> None:
        """Begins.

        Args:
            tracks: of the stream.
            clock: monotonic, s.

        Raises:
            ExtensionRefused: the extension cannot begin with these tracks and settings.
            ExtensionFailed: it failed while it began.
        """
        manifest = extension.manifest
        self._given = [track.kind in manifest.tracks for track in tracks]
        if not any(self._given):
            kinds = ", ".join(manifest.tracks)
            raise ExtensionRefused(f"{manifest.name} processes {kinds}; the stream has none of that")
        self._decoders: dict[int, TrackDecoder] = {}
        self._encoders: dict[int, TrackEncoder] = {}
        self._tap = manifest.tap
        inputs = list(tracks)
        try:
            if manifest.level is Level.DECODED:
                self._decoders = {n: TrackDecoder(track) for n, track in enumerate(tracks) if self._given[n]}
                inputs = [self._decoders[n].format if self._given[n] else track for n, track in enumerate(tracks)]
            self.running = RunningExtension(manifest, extension.make, inputs, config, clock)
            if manifest.level is Level.DECODED:
                self._encoders = {
                    n: TrackEncoder(track)
                    for n, track in enumerate(self.running.tracks)
                    if track.codec in (PICTURE, SOUND) and not (manifest.tap and n < len(tracks))
                }
        except MediaError as error:
            raise ExtensionRefused(f"{manifest.name}: {error}") from error
        self.tracks = tuple(
            self._encoders[n].format if n in self._encoders else track for n, track in enumerate(self.running.tracks)
        )
        if self._tap:
            self.tracks = (*tracks, *self.tracks[len(tracks) :])
        for number, given in enumerate(self._given):
            if not given and self.tracks[number : number + 1] != (tracks[number],):
                raise ExtensionRefused(f"{manifest.name} changes track {number}, which it does not process")

    def push(self, frames: Sequence[EncodedFrame]) -> list[EncodedFrame]:
        """What becomes of frames, in decoding order within each track, and of the events that wait.

        Raises:
            ExtensionFailed: it failed, and its author wants the stream to end then.
        """
        by = [frame for frame in frames if self._tap or not self._given[frame.track]]
        plain = list(self._plain(frame for frame in frames if self._given[frame.track]))
        return by + self._encoded(self.running.process(plain) if plain else self.running.deliver())

    def tell(self, upcall: Upcall) -> list[EncodedFrame]:
        """Tells it of an event; what it emits.

        Raises:
            ExtensionFailed: as push.
        """
        return self._encoded(self.running.tell(upcall))

    def finish(self) -> list[EncodedFrame]:
        """The stream is over: what is left in decoders and encoders.

        Raises:
            ExtensionFailed: as push.
        """
        left = [self._numbered(frame, n) for n, decoder in self._decoders.items() for frame in decoder.decode(None)]
        out = self._encoded(self.running.process(left)) if left else []
        for number, encoder in self._encoders.items():
            out += encoder.encode(None, number)
        return out

    def close(self) -> None:
        """Ends the extension."""
        self.running.close()

    def _plain(self, frames: Iterable[EncodedFrame]) -> Iterable[EncodedFrame]:
        for frame in frames:
            decoder = self._decoders.get(frame.track)
            if decoder is None:
                yield frame
            else:
                yield from decoder.decode(frame)

    def _encoded(self, frames: Sequence[EncodedFrame]) -> list[EncodedFrame]:
        out: list[EncodedFrame] = []
        for frame in frames:
            if self._tap and frame.track < len(self._given):
                continue
            encoder = self._encoders.get(frame.track)
            if encoder is None:
                out.append(frame)
                continue
            try:
                out += encoder.encode(frame, frame.track)
            except MediaError:
                self.running.stats.errors += 1
        return out

    def _numbered(self, frame: EncodedFrame, track: int) -> EncodedFrame:
        return EncodedFrame(track, frame.pts_us, frame.dts_us, frame.duration_us, frame.keyframe, frame.payload)
