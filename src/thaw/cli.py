"""`thaw <verb>`: one verb per rule of the workflow, and a few for people. Each verb is a module of `thaw.commands`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from thaw import __version__
from thaw.console import console
from thaw.errors import EXIT_UNFINISHED, EXIT_USER_ERROR, Unfinished, UserError

RULES = (
    *("fetch", "audio", "manifest", "part", "lm", "checkpoint"),
    *("train", "decode", "probe", "score", "exhibit", "report"),
)
PEOPLE = ("runs", "plan", "why", "gc", "transcribe", "features")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="thaw",
        description="Which layers of a speech recogniser transfer? The verbs behind the workflow's rules.",
        epilog="thaw VERB --help shows a verb's options and an example.",
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="write what is said to FILE too, as rules do")
    parser.add_argument("--version", action="version", version=f"thaw {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in (*PEOPLE, *RULES):
        command = importlib.import_module(f"thaw.commands.{verb}")
        sub = verbs.add_parser(
            verb,
            help=command.HELP,
            description=command.HELP,
            epilog=f"example:\n  {command.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Returns 0; 2 for what the user can mend (one line each); 75 for work that goes on next time."""
    args = build_parser().parse_args(arguments)
    try:
        with console(args.log):
            return perform(args)
    except UserError as error:
        print(f"thaw: {error}", file=sys.stderr)
        return EXIT_USER_ERROR


def perform(args: argparse.Namespace) -> int:
    """Run the verb and turn what ends it into an exit status."""
    try:
        args.run(args)
    except UserError as error:
        for line in str(error).splitlines():
            print(f"thaw {args.verb}: {line}", file=sys.stderr)
        return EXIT_USER_ERROR
    except ValidationError as error:
        for item in error.errors():
            print(f"thaw {args.verb}: {error.title}: {'.'.join(map(str, item['loc']))}: {item['msg']}", file=sys.stderr)
        return EXIT_USER_ERROR
    except Unfinished as error:
        print(f"thaw {args.verb}: {error}", file=sys.stderr)
        return EXIT_UNFINISHED
    except KeyboardInterrupt:
        print(f"thaw {args.verb}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    return 0


if __name__ == "__main__":
    sys.exit(main())
