"""`cubecast extension list | new | build | sign | check | run | bench`: for authors of stream-processing extensions."""

import argparse
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cubecast.bench.frame_cost import BATCH as BENCH_BATCH
from cubecast.bench.frame_cost import frame_cost
from cubecast.cli.arguments import Parser, check_outputs, extension_settings
from cubecast.cli.command_runner import BROKEN, json_text, notify
from cubecast.errors import ExtensionRefused, UsageError
from cubecast.frames import EncodedFrame, TrackFormat
from cubecast.keys import private_key
from cubecast.media.sinks import MediaSink, NullSink, Sink, check_suffix, container_for
from cubecast.media.sources import MediaSource
from cubecast.processing.pipeline import Pipeline
from cubecast.sandbox.abi import EventKind, manifest_of
from cubecast.sandbox.loading import Extension, config_folder, load, read_module, shipped, wasm_of
from cubecast.sandbox.supervision import ExtensionStats, Instance
from cubecast.sandbox.toolchain.build import Language, build, build_native, read_manifest
from cubecast.sandbox.toolchain.check import check
from cubecast.sandbox.toolchain.golden import RecordedInstance, save
from cubecast.sandbox.toolchain.scaffold import create
from cubecast.sandbox.trusted.signatures import SUFFIX as SIGNATURE_SUFFIX
from cubecast.sandbox.trusted.signatures import sign
from cubecast.sandbox.upcalls import Upcall
from cubecast.sandbox.wasm.engine import deadlines

BATCH = 8
"""Number of frames in one call of the extension; live frames are passed one at a time."""
NATIVE_SUFFIX = ".so"
"""What the file name of a native build ends in; `load` runs a file by its suffix."""
LANGUAGES = {"c": Language.C, "zig": Language.ZIG, "assemblyscript": Language.ASSEMBLYSCRIPT, "wat": Language.WAT}


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(prog="cubecast extension", description="Write, check and try stream-processing extensions.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    verbs.add_parser("list", help="name the extensions that come with cubecast")
    sub = verbs.add_parser("new", help="create one: a folder with a source that builds")
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("--lang", choices=list(LANGUAGES), default="c", help="(%(default)s)")
    sub.add_argument("--folder", type=Path, help="where it goes (./NAME)")
    sub = verbs.add_parser("build", help="build a folder's source into NAME.wasm")
    sub.add_argument("folder", type=Path, nargs="?", default=Path(), metavar="FOLDER", help="(this one)")
    sub.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the module goes (FOLDER/NAME.wasm)")
    sub.add_argument(
        "--native", action="store_true", help="a shared library for this machine, NAME.so: trusted code (C)"
    )
    sub = verbs.add_parser("sign", help="sign trusted code: writes FILE.sig")
    sub.add_argument("file", type=Path, metavar="FILE")
    sub.add_argument(
        "--key",
        type=Path,
        metavar="FILE.pem",
        help="your key; made on first use (signing-key.pem of the user's configuration)",
    )
    sub = verbs.add_parser("check", help="interface, imports, limits, synthetic frames, and golden files beside it")
    sub.add_argument("file", type=Path, metavar="FILE")
    _add_trusted(sub)
    _add_run(verbs.add_parser("run", help="run one on a media file"))
    _add_bench(verbs.add_parser("bench", help="measure its cost per frame, alone and against native code"))
    args = parser.parse_args(arguments)
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": _list,
        "new": _new,
        "build": _build,
        "sign": _sign,
        "check": _check,
        "run": _run,
        "bench": _bench,
    }
    return actions[args.verb](args)


def _add_trusted(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="run native code in this process, with all its rights, instead of a confined one",
    )
    parser.add_argument(
        "--trusted",
        type=Path,
        metavar="FILE",
        help="public keys whose native code is run (trusted-keys of the user's configuration)",
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_input(parser)
    parser.add_argument("-o", "--output", default="", metavar="OUTPUT", help="a .ts or .mp4 file (nothing is written)")
    parser.add_argument(
        "--event", action="append", default=[], metavar="KIND=VALUE@N", help="send it an event before frame N"
    )
    parser.add_argument("--golden", type=Path, metavar="FILE", help="record its input and output in a golden file")


def _add_bench(parser: argparse.ArgumentParser) -> None:
    _add_input(parser)
    parser.add_argument(
        "--native", metavar="FILE.so", help="a signed native build of the same source, run in this process to compare"
    )


def _add_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=f"a module, or one of {', '.join(shipped())}")
    parser.add_argument("input", metavar="INPUT", help="a media file")
    _add_trusted(parser)
    parser.add_argument(
        "--config", action="append", default=[], metavar="K=V", help="a setting of the extension; again for each"
    )
    parser.add_argument("--json", action="store_true", help="print one object of figures")


def _list(_: argparse.Namespace) -> int:
    for name in shipped():
        manifest = manifest_of(wasm_of(name))
        settings = " ".join(f"{key}={value}" for key, value in manifest.config.items())
        print(f"{name:<10} {manifest.level:<8} {manifest.about}{f'  [{settings}]' if settings else ''}")
    return 0


def _new(args: argparse.Namespace) -> int:
    folder = args.folder or Path(args.name)
    source = create(args.name, LANGUAGES[args.lang], folder)
    notify(f"wrote {source}; build it with: cubecast extension build {folder}")
    return 0


def _build(args: argparse.Namespace) -> int:
    module = build_native(args.folder) if args.native else build(args.folder)
    suffix = "so" if args.native else "wasm"
    out = args.output or args.folder / f"{read_manifest(args.folder).name}.{suffix}"
    check_outputs([out], args.folder.iterdir() if args.output is not None else [])
    try:
        out.write_bytes(module)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}") from error
    notify(f"wrote {out}, {len(module)} bytes")
    return 0


def _sign(args: argparse.Namespace) -> int:
    try:
        content = read_module(args.file)
    except ExtensionRefused as error:
        raise UsageError(f"{args.file}: {error}") from error
    key = private_key(args.key or config_folder() / "signing-key.pem")
    beside = args.file.with_name(args.file.name + SIGNATURE_SUFFIX)
    try:
        beside.write_text(sign(content, key), encoding="ascii")
    except OSError as error:
        raise UsageError(f"cannot write {beside}: {error.strerror}") from error
    notify(f"wrote {beside}; hosts that have this line in their list of trusted keys run {args.file.name}:")
    print(key.public_key().public_bytes_raw().hex())
    return 0


def _check(args: argparse.Namespace) -> int:
    found = check(args.file, args.trusted, confined=not args.in_process)
    manifest = found.manifest
    mib = found.memory_bytes / 2**20
    print(
        f"{args.file}: {manifest.name} {manifest.version} is in order: interface {manifest.abi}, {manifest.level} frames, "
        f"{mib:.1f} of {manifest.memory_mib} MiB, {found.golden} golden file(s)"
    )
    return 0


def _run(args: argparse.Namespace) -> int:
    """Processes every frame of the input, and writes the result to a file."""
    config, events = extension_settings(args.config), _events(args.event)
    if args.output == "-":
        raise UsageError("the output cannot go to standard output; name a file: -o FILE")
    check_outputs([args.output, args.golden], [args.input, args.file])
    if args.output:
        check_suffix(args.output, None)
    extension = load(args.file, trusted=args.trusted, confined=not args.in_process)
    recorded: list[RecordedInstance] = []
    if args.golden is not None:
        extension = _recording(extension, recorded)
    with ExitStack() as stack:
        stack.enter_context(deadlines())
        source = stack.enter_context(MediaSource(args.input))
        pipeline = Pipeline(extension, source.tracks, config, time.perf_counter)
        stack.callback(pipeline.close)
        sink = _sink(args.output, pipeline.tracks)
        stack.callback(sink.close)
        frames = _through(source, pipeline, sink, events, quiet=args.json)
    late = sorted(number for number in events if number >= frames)
    if late:
        notify(
            f"no event was sent before frame {', '.join(map(str, late))}: the input has {frames} frames, the first is 0"
        )
    if recorded:
        save(recorded[0].golden(extension.manifest.name), args.golden)
    stats = pipeline.running.stats
    figures = _figures(extension, stats, pipeline)
    if args.json:
        print(json_text(figures))
    else:
        notify(
            f"{extension.manifest.name}: {stats.frames_in} frames in, {stats.frames_out} out, "
            f"{stats.failures} failure(s), {figures['us_per_frame']:.1f} us a frame"
        )
        if stats.last_failure:
            notify(f"the last failure: {stats.last_failure}")
    if stats.frames_in and stats.bypassed + stats.dropped >= stats.frames_in:
        notify(f"{extension.manifest.name} processed none of the {stats.frames_in} frames: all of them bypassed it")
        return BROKEN
    return 0


def _bench(args: argparse.Namespace) -> int:
    extension = load(args.file, trusted=args.trusted, confined=not args.in_process)
    if args.native is not None and Path(args.native).suffix != NATIVE_SUFFIX:
        raise UsageError(
            f"--native {args.native} is no native build; make one: cubecast extension build --native FOLDER"
        )
    native = None if args.native is None else load(args.native, trusted=args.trusted, confined=False)
    with deadlines():
        cost = frame_cost(extension, native, args.input, extension_settings(args.config))
    if args.json:
        print(json_text({"extension": extension.manifest.name, **asdict(cost), "ratio": cost.ratio}))
        return 0
    beside = (
        ""
        if cost.native_us is None
        else f"; native {cost.native_us:.2f} us, of which the sandbox takes {cost.ratio:.2f} times as much"
    )
    print(
        f"{extension.manifest.name}: {cost.alone_us:.2f} us a frame alone, {cost.batch_us:.2f} us in batches of {BENCH_BATCH}"
        f"{beside} ({cost.frames} frames)"
    )
    return 0


def _through(
    source: MediaSource, pipeline: Pipeline, sink: Sink, events: Mapping[int, list[Upcall]], *, quiet: bool
) -> int:
    """Passes every frame through the pipeline to the sink, and returns their number."""

    def write(frames: Sequence[EncodedFrame]) -> None:
        for frame in frames:
            sink.write(frame)

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed} frames"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task(pipeline.running.manifest.name, total=None)
        batch: list[EncodedFrame] = []
        number = -1
        for number, frame in enumerate(source.frames()):
            if number in events:
                write(pipeline.push(batch))
                batch = []
                for upcall in events[number]:
                    write(pipeline.deliver(upcall))
            batch.append(frame)
            if len(batch) == BATCH:
                write(pipeline.push(batch))
                progress.advance(task, len(batch))
                batch = []
        write(pipeline.push(batch))
        write(pipeline.finish())
    return number + 1


def _figures(extension: Extension, stats: ExtensionStats, pipeline: Pipeline) -> dict[str, object]:
    return {
        "extension": extension.manifest.name,
        "version": extension.manifest.version,
        "frames_in": stats.frames_in,
        "frames_out": stats.frames_out,
        "bytes_in": stats.bytes_in,
        "bytes_out": stats.bytes_out,
        "traps": stats.traps,
        "deadlines": stats.deadlines,
        "errors": stats.errors,
        "bypassed": stats.bypassed,
        "dropped": stats.dropped,
        "us_per_frame": stats.busy_s / max(1, stats.frames_in) * 1e6,
        "tracks": [str(track) for track in pipeline.tracks],
        "last_failure": stats.last_failure,
    }


def _events(texts: Sequence[str]) -> dict[int, list[Upcall]]:
    """--event KIND=VALUE@N, given any number of times: upcalls by the number of the frame they come before.

    Raises:
        UsageError: one is not of that form.
    """
    found: dict[int, list[Upcall]] = {}
    names = {kind.name.lower(): kind for kind in EventKind}
    for text in texts:
        match = re.fullmatch(r"([a-z_]+)=(-?\d{1,9}(?:\.\d{1,9})?)@(\d{1,9})", text)
        if match is None or match[1] not in names:
            raise UsageError(
                f"--event {text!r} is not KIND=VALUE@FRAME, such as congestion=0.3@100; kinds are {', '.join(names)}"
            )
        found.setdefault(int(match[3]), []).append(Upcall(names[match[1]], 0, float(match[2])))
    return found


def _recording(extension: Extension, recorded: list[RecordedInstance]) -> Extension:
    def make(tracks: Sequence[TrackFormat], config: Mapping[str, str]) -> Instance:
        recorded.append(RecordedInstance(extension.make(tracks, config), tracks, config))
        return recorded[-1]

    return Extension(extension.manifest, make)


def _sink(output: str, tracks: Sequence[TrackFormat]) -> Sink:
    if not output:
        return NullSink()
    container = container_for(output, None, tracks)
    try:
        file = Path(output).open("wb")  # noqa: SIM115  the sink closes it
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}") from error
    return MediaSink(file, output, container, tracks, beside=True)
