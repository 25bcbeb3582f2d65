"""`cubecast trace explain`: says why subscribers have their parents, were refused, or moved, from what --trace wrote."""

from pathlib import Path

from cubecast.cli.arguments import Parser
from cubecast.cli.command_runner import notify
from cubecast.errors import UsageError
from cubecast.texts import printable
from cubecast.tracing.explain import Explanation


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(prog="cubecast trace", description="Explain the decisions in a trace that --trace has written.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    explain = verbs.add_parser("explain", help="why each subscriber has its parent, was refused, or moved")
    explain.add_argument("file", type=Path, metavar="FILE", help="what --trace wrote")
    explain.add_argument("--channel", default="", metavar="CHANNEL", help="only this channel")
    explain.add_argument("--subscriber", default="", metavar="HOST", help="only this host")
    args = parser.parse_args(arguments)
    explanation = Explanation(args.channel, args.subscriber)
    try:
        with args.file.open("rb") as lines:
            explanation.read(lines)
    except OSError as error:
        raise UsageError(f"{args.file}: {error.strerror}; name a file that --trace has written") from error
    for story in explanation.stories():
        print(printable(f"{story.subscriber}, channel {story.channel}:"))
        print("\n".join(map(printable, story.sentences)))
    if explanation.incomplete:
        notify(f"{explanation.incomplete} lines of {args.file} are incomplete or not of a trace; they were left out")
    return 0
