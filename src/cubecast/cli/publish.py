"""`cubecast publish CHANNEL SOURCE`: one channel from a file, URL or pipe, paced in real time."""

import asyncio
import math
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

from cubecast.cli.arguments import Parser, add_host_options, host_config, milliseconds
from cubecast.cli.host import status, tell_joined
from cubecast.cli.running import emit, held, notify, serve
from cubecast.engine.records import Tree, check_name
from cubecast.errors import UsageError
from cubecast.host.config import HostConfig
from cubecast.host.runtime import HostRuntime, running
from cubecast.host.tracks import ChannelWriter
from cubecast.media.frames import US
from cubecast.media.reading import SourceReader
from cubecast.types import ChannelName

STATUS_S = 0.5


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(prog="cubecast publish", description="Publish a file or stream as a channel, in real time.")
    parser.add_argument("channel", help="the channel's name: letters, digits, dots, dashes, underscores")
    parser.add_argument("source", help="any file or URL FFmpeg reads, or - for standard input")
    parser.add_argument("--loop", action="store_true", help="start the source again at its end")
    parser.add_argument(
        "--for", dest="period_ms", type=milliseconds, metavar="TIME", help="stop after this, such as 60s"
    )
    parser.add_argument(
        "--tree", type=Tree, choices=list(Tree), default=Tree.HYBRID, help="how hosts choose parents (hybrid)"
    )
    parser.add_argument("--hold", action="store_true", help="announce, then start when a line comes on standard input")
    parser.add_argument("--json", action="store_true", help="say what happens as JSON lines")
    add_host_options(parser)
    args = parser.parse_args(arguments)
    if args.source == "-" and (args.hold or args.loop):
        raise UsageError("--hold and --loop need a source that is not standard input")
    check_name("channel name", args.channel)
    wish = _Wish(ChannelName(args.channel), args.source, args.loop, args.hold, args.period_ms, args.tree)
    return serve(_publish(host_config(args), wish, args.json))


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the user asked for."""

    channel: ChannelName
    source: str
    loop: bool
    hold: bool
    period_ms: float | None
    tree: Tree


async def _publish(config: HostConfig, wish: _Wish, json: bool) -> int:
    reader = SourceReader(wish.source, wish.loop)
    async with AsyncExitStack() as stack:
        stack.callback(reader.stop)
        if wish.source == "-":
            notify("waiting for media on standard input")
        source = await reader.open()
        for note in source.notes:
            notify(note)
        host = await stack.enter_async_context(running(config, notify))
        tell_joined(host, json)
        writer = await host.publish(wish.channel, source.tracks, wish.tree)
        tracks = [str(track) for track in source.tracks]
        if json:
            emit("announced", channel=wish.channel, tracks=tracks)
        else:
            notify(f"channel {wish.channel} announced: {'; '.join(tracks)}")
        async with asyncio.TaskGroup() as group:
            reporter = group.create_task(_report(host, writer, json))
            try:
                if wish.hold:
                    await held()
                await _pace(host, writer, reader, wish.period_ms)
            finally:
                reporter.cancel()
                await host.finish(wish.channel, writer)
        if json:
            emit("finished", frames=list(writer.published), **status(host))
        else:
            notify(f"channel {wish.channel} finished after {sum(writer.published)} frames")
    return 0


async def _pace(host: HostRuntime, writer: ChannelWriter, reader: SourceReader, period_ms: float | None) -> None:
    """Writes each frame when it is due; one that comes late from a live source goes at once."""
    end = math.inf if period_ms is None else period_ms / 1000
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


async def _report(host: HostRuntime, writer: ChannelWriter, json: bool) -> None:
    while json:
        await asyncio.sleep(STATUS_S)
        emit("status", frames=list(writer.published), **status(host))
