"""Sends the frames of a stream through one extension.

Tracks that the extension does not process are forwarded unchanged. For an extension at level `decoded` the frames are
decoded before and encoded after it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from cubecast.errors import ExtensionRefused, MediaError
from cubecast.frames import EncodedFrame, TrackFormat
from cubecast.media.levels import RAW_AUDIO, RAW_VIDEO, TrackDecoder, TrackEncoder
from cubecast.sandbox.abi import Level
from cubecast.sandbox.loading import Extension
from cubecast.sandbox.supervision import RunningExtension
from cubecast.sandbox.upcalls import Upcall


class Pipeline:
    """One extension that processes the frames of one stream."""

    def __init__(
        self, extension: Extension, tracks: Sequence[TrackFormat], config: Mapping[str, str], clock: Callable[[], float]
    ) -> None:
        """Starts the extension, the decoders and the encoders.

        Args:
            tracks: tracks of the stream.
            config: settings that override the manifest's defaults.
            clock: monotonic, s.

        Raises:
            ExtensionRefused: the extension does not accept these tracks or settings.
            ExtensionFailed: it failed while it started.
        """
        manifest = extension.manifest
        self._processed = [track.kind in manifest.tracks for track in tracks]
        if not any(self._processed):
            kinds = ", ".join(manifest.tracks)
            raise ExtensionRefused(f"{manifest.name} processes {kinds}; the stream has none of that")
        self._decoders: dict[int, TrackDecoder] = {}
        self._encoders: dict[int, TrackEncoder] = {}
        self._tap = manifest.tap
        inputs = list(tracks)
        try:
            if manifest.level is Level.DECODED:
                self._decoders = {n: TrackDecoder(track) for n, track in enumerate(tracks) if self._processed[n]}
                inputs = [self._decoders[n].format if self._processed[n] else track for n, track in enumerate(tracks)]
            self.running = RunningExtension(manifest, extension.make, inputs, config, clock)
            if manifest.level is Level.DECODED:
                self._encoders = {
                    n: TrackEncoder(track)
                    for n, track in enumerate(self.running.tracks)
                    if track.codec in (RAW_VIDEO, RAW_AUDIO) and not (manifest.tap and n < len(tracks))
                }
        except MediaError as error:
            raise ExtensionRefused(f"{manifest.name}: {error}") from error
        self.tracks = tuple(
            self._encoders[n].format if n in self._encoders else track for n, track in enumerate(self.running.tracks)
        )
        if self._tap:
            self.tracks = (*tracks, *self.tracks[len(tracks) :])
        for number, processed in enumerate(self._processed):
            if not processed and self.tracks[number : number + 1] != (tracks[number],):
                raise ExtensionRefused(f"{manifest.name} changes track {number}, which it does not process")

    def push(self, frames: Sequence[EncodedFrame]) -> list[EncodedFrame]:
        """Processes frames and the events that wait; returns the output in decoding order within each track.

        Raises:
            ExtensionFailed: it failed, and its manifest says that the stream ends then.
        """
        unchanged = [frame for frame in frames if self._tap or not self._processed[frame.track]]
        decoded = list(self._decoded(frame for frame in frames if self._processed[frame.track]))
        return unchanged + self._encoded(self.running.process(decoded) if decoded else self.running.deliver_waiting())

    def deliver(self, upcall: Upcall) -> list[EncodedFrame]:
        """Delivers an event to the extension now; returns the frames emitted.

        Raises:
            ExtensionFailed: as push.
        """
        return self._encoded(self.running.deliver(upcall))

    def finish(self) -> list[EncodedFrame]:
        """Flushes decoders and encoders at the end of the stream; returns the remaining frames.

        Raises:
            ExtensionFailed: as push.
        """
        remaining = [
            self._with_track(frame, n) for n, decoder in self._decoders.items() for frame in decoder.decode(None)
        ]
        out = self._encoded(self.running.process(remaining)) if remaining else []
        for number, encoder in self._encoders.items():
            out += encoder.encode(None, number)
        return out

    def close(self) -> None:
        """Closes the extension."""
        self.running.close()

    def _decoded(self, frames: Iterable[EncodedFrame]) -> Iterable[EncodedFrame]:
        for frame in frames:
            decoder = self._decoders.get(frame.track)
            if decoder is None:
                yield frame
            else:
                yield from decoder.decode(frame)

    def _encoded(self, frames: Sequence[EncodedFrame]) -> list[EncodedFrame]:
        out: list[EncodedFrame] = []
        for frame in frames:
            if self._tap and frame.track < len(self._processed):
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

    def _with_track(self, frame: EncodedFrame, track: int) -> EncodedFrame:
        return EncodedFrame(track, frame.pts_us, frame.dts_us, frame.duration_us, frame.keyframe, frame.payload)
