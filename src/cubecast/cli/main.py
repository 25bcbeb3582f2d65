"""`cubecast`: finds the command and runs it. It imports nothing heavy itself, so that Ctrl-C works from the start."""

import importlib
import os
import sys

from cubecast import __version__

BAD_INPUT = 2
"""Exit status for bad input, as argparse has it."""
INTERRUPTED = 130
"""Exit status of a command that the user interrupted: as a shell reports a program that SIGINT ended."""
OUTPUT_CLOSED = 141
"""Exit status when the reader of standard output has closed it: as a shell reports a program that SIGPIPE ended."""
ARGUMENT_MAX = 4096
"""Maximum length of one argument, characters; every valid argument is shorter."""

COMMANDS = {
    "demo": "watch a clip go to several subscribers over an emulated Internet",
    "supernode": "run the directory",
    "host": "run a host that relays",
    "publish": "publish a file or stream as a channel",
    "subscribe": "receive a channel within a bound",
    "process": "make a channel from another by an extension",
    "channels": "list channels, hosts and subscriptions",
    "token": "make a join token",
    "trace": "explain why a subscriber has its parent, was refused, or moved",
    "route": "show the path a policy takes between two labels",
    "extension": "write, check and try code that processes streams",
    "bench": "measure relay, lab and sandbox against their bars",
    "lab": "reproduce the published experiments, beside the rivals and what goes beyond",
    "testbed": "inject faults on real processes, and check that streams survive them",
    "emulator": "run a delay stage: an Internet on one machine",
}
EXPERIMENTS = {"bench", "lab", "testbed", "emulator"}
"""Commands whose modules are in cubecast.cli.experiments; those of the others are in cubecast.cli.commands."""


def main() -> None:
    """The console script."""
    open_closed_descriptors()
    try:
        try:
            status = run(sys.argv[1:])
        except SystemExit as end:  # argparse, and rich when its output is closed
            if isinstance(end.__context__, BrokenPipeError):
                raise BrokenPipeError from end
            status = end.code if isinstance(end.code, int) else BAD_INPUT
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:  # while modules are still being imported
        status = INTERRUPTED
    except BrokenPipeError:
        status = OUTPUT_CLOSED
    if status == OUTPUT_CLOSED:
        discard_output()
    sys.exit(status)


def open_closed_descriptors() -> None:
    """Opens /dev/null for standard input, output and error where the caller has closed them.

    Otherwise the first socket or file of the program would become its standard output, and some libraries end the
    process when they meet one of the three closed.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest descriptor that is free, which is this one
            if getattr(sys, name) is None:
                setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))


def discard_output() -> None:
    """Discards what is still to be written to standard output: its reader is gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: list[str]) -> int:
    """Runs one command line and returns its exit status."""
    first = arguments[0] if arguments else "--help"
    if first in ("-h", "--help", "help"):
        print(usage())
        return 0
    if first in ("-V", "--version"):
        print(f"cubecast {__version__}")
        return 0
    if max((len(argument) for argument in arguments), default=0) > ARGUMENT_MAX:
        print(f"cubecast: an argument has more than {ARGUMENT_MAX} characters, the maximum", file=sys.stderr)
        return BAD_INPUT
    if first not in COMMANDS:
        print(f"cubecast: there is no command {first!r}; commands are {', '.join(COMMANDS)}", file=sys.stderr)
        return BAD_INPUT
    runner = importlib.import_module("cubecast.cli.command_runner")
    folder = "experiments" if first in EXPERIMENTS else "commands"
    command = importlib.import_module(f"cubecast.cli.{folder}.{first}")
    return int(runner.exit_status(lambda: command.run(arguments[1:])))


def usage() -> str:
    """The list of commands."""
    lines = [f"  {name:<11}{text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: cubecast COMMAND [OPTIONS]",
            "",
            "Live media over a k-ary n-cube of ordinary hosts, each subscriber within its own bound on latency.",
            "",
            *lines,
            "",
            "cubecast COMMAND --help lists the options of a command.",
        ]
    )
