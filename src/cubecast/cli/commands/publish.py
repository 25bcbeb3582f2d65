"""`cubecast publish CHANNEL SOURCE`: one channel from a file, URL or pipe, paced in real time."""

import asyncio
import math
from contextlib import AsyncExitStack, aclosing

from cubecast.cli.arguments import Parser, add_host_options, add_tree_option, host_config, milliseconds
from cubecast.cli.command_runner import emit, held, notify, serve
from cubecast.cli.report.host_status import STATUS_S, status, tell_joined
from cubecast.engine.protocol.records import Tree, check_name
from cubecast.errors import UsageError
from cubecast.frames import US
from cubecast.host.channel.tracks import ChannelWriter
from cubecast.host.config import HostConfig
from cubecast.host.open_host import open_host
from cubecast.host.runtime import HostRuntime
from cubecast.media.reading import SourceReader
from cubecast.media.sources import MediaSource
from cubecast.types import ChannelName


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(prog="cubecast publish", description="Publish a file or stream as a channel, in real time.")
    parser.add_argument("channel", help="the channel's name: letters, digits, dots, dashes, underscores")
    parser.add_argument("source", help="any file or URL FFmpeg reads, or - for standard input")
    parser.add_argument("--loop", action="store_true", help="start the source again at its end")
    parser.add_argument(
        "--for", dest="period_ms", type=milliseconds, metavar="TIME", help="stop after this, such as 60s"
    )
    add_tree_option(parser)
    parser.add_argument("--hold", action="store_true", help="announce, then start when a line comes on standard input")
    parser.add_argument("--json", action="store_true", help="say what happens as JSON lines")
    add_host_options(parser)
    args = parser.parse_args(arguments)
    if args.source == "-" and (args.hold or args.loop):
        raise UsageError("--hold and --loop need a source that is not standard input")
    check_name("channel name", args.channel)
    publication = Publication(
        ChannelName(args.channel), args.source, loop=args.loop, hold=args.hold, period_ms=args.period_ms, tree=args.tree
    )
    return serve(_publish(host_config(args), publication, args.json))


class Publication:
    """A source that becomes a channel: `open`, then `run` on a host; `stop` at the end."""

    def __init__(
        self,
        channel: ChannelName,
        source: str,
        *,
        loop: bool = False,
        hold: bool = False,
        period_ms: float | None = None,
        tree: Tree = Tree.HYBRID,
    ) -> None:
        self.channel = channel
        self._location = source
        self._loop = loop
        self._hold = hold
        self._period_ms = period_ms
        self._tree = tree
        self._reader: SourceReader | None = None
        self._source: MediaSource | None = None

    async def open(self) -> None:
        """Opens the source.

        Raises:
            MediaError: it cannot be read, or holds nothing that can be published.
        """
        if self._location == "-":
            notify("waiting for media on standard input")
        self._reader = SourceReader(self._location, self._loop)
        self._source = await self._reader.open()
        for note in self._source.notes:
            notify(note)

    def stop(self) -> None:
        """Closes the source."""
        if self._reader is not None:
            self._reader.stop()

    async def run(self, host: HostRuntime, json: bool) -> None:
        """Publishes the source to its end.

        Raises:
            CubecastError: the channel is refused, or the source breaks.
        """
        assert self._source is not None and self._reader is not None, "open() first"  # noqa: PT018  one condition
        writer = await host.publish(self.channel, self._source.tracks, self._tree)
        tracks = [str(track) for track in self._source.tracks]
        if json:
            emit("announced", channel=self.channel, tracks=tracks)
        else:
            notify(f"channel {self.channel} announced: {'; '.join(tracks)}")
        async with asyncio.TaskGroup() as group:
            reporter = group.create_task(_report(host, self.channel, writer, json))
            try:
                if self._hold:
                    await held()
                await self._pace(host, writer, self._reader)
            finally:
                reporter.cancel()
                await host.finish(self.channel, writer)
        if json:
            emit("finished", channel=self.channel, frames=list(writer.published), **status(host))
        else:
            notify(f"channel {self.channel} finished after {sum(writer.published)} frames")

    async def _pace(self, host: HostRuntime, writer: ChannelWriter, reader: SourceReader) -> None:
        """Writes each frame when it is due; one that comes late from a live source goes at once."""
        end = math.inf if self._period_ms is None else self._period_ms / 1000
        loop = asyncio.get_running_loop()
        start: float | None = None
        async with aclosing(reader.frames()) as frames:
            async for frame in frames:
                if start is None:
                    start = loop.time() - frame.dts_us / US
                    end += loop.time()
                if loop.time() >= end:
                    return
                wait_s = start + frame.dts_us / US - loop.time()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                writer.write(frame, host.clock())


async def _publish(config: HostConfig, publication: Publication, json: bool) -> int:
    async with AsyncExitStack() as stack:
        stack.callback(publication.stop)
        await publication.open()
        host = await stack.enter_async_context(open_host(config, notify))
        tell_joined(host, json)
        await publication.run(host, json)
    return 0


async def _report(host: HostRuntime, channel: ChannelName, writer: ChannelWriter, json: bool) -> None:
    while json:
        await asyncio.sleep(STATUS_S)
        emit("status", channel=channel, frames=list(writer.published), **status(host))
