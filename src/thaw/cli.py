"""`thaw <verb>`: one verb per rule of the workflow, and a few for people. Each verb is a module of `thaw.commands`.

The edge of the program: whatever a verb or the system under it throws that a person can mend ends here as one line.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NoReturn, TextIO

from pydantic import ValidationError

from thaw import __version__
from thaw.console import console
from thaw.errors import EXIT_UNFINISHED, EXIT_USER_ERROR, Unfinished, UserError, cure, on_one_line

RULES = (
    *("fetch", "audio", "manifest", "part", "lm", "lexicon", "align", "graph", "gmm", "units", "checkpoint"),
    *("train", "emit", "search", "decode", "probe", "evidence", "score", "exhibit", "report"),
)
PEOPLE = ("runs", "plan", "why", "gc", "verify", "transcribe", "features", "layers")
SYSTEM = (OSError, MemoryError, UnicodeError, RecursionError)


class Parser(argparse.ArgumentParser):
    """Mistakes on the command line in one line; the options are shown by --help."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USER_ERROR, f"{self.prog}: {on_one_line(message)} ({self.prog} --help shows the options)\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = Parser(
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


class Lost(Exception):
    """Standard output takes no more: its reader has gone, or its disk is full."""


class Stdout:
    """Standard output, whose own failures cannot be mistaken for those of a file that a verb writes."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except OSError as error:
            raise Lost from error

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError as error:
            raise Lost from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Returns 0; 2 for what the user can mend (one line each); 75 for work that goes on next time."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without these letters shows their numbers
            stream.reconfigure(errors="backslashreplace")
    verb = "thaw"
    out: Any = Stdout(sys.stdout)
    try:
        with redirect_stdout(out):
            try:
                args = build_parser().parse_args(arguments)
                verb = f"thaw {args.verb}"
                with console(args.log):
                    status = perform(args, verb)
            finally:  # also of what argparse prints before it leaves
                out.flush()
    except UserError as error:
        return _say("thaw", [str(error)], EXIT_USER_ERROR)
    except Lost as lost:
        return _cut_off(lost.__cause__, verb)
    return status


def perform(args: argparse.Namespace, verb: str) -> int:
    """Run the verb and turn what ends it into an exit status."""
    try:
        args.run(args)
    except UserError as error:
        return _say(verb, str(error).splitlines(), EXIT_USER_ERROR)
    except ValidationError as error:
        lines = [f"{error.title}: {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        return _say(verb, lines, EXIT_USER_ERROR)
    except Unfinished as error:
        return _say(verb, [str(error)], EXIT_UNFINISHED)
    except KeyboardInterrupt:
        return _say(verb, ["interrupted"], 130)
    except SYSTEM as error:
        return _say(verb, [cure(error)], EXIT_USER_ERROR)
    return 0


def _say(verb: str, lines: Sequence[str], status: int) -> int:
    """One line for each on standard error, whatever is in it."""
    try:
        for line in lines:
            print(f"{verb}: {on_one_line(line)}", file=sys.stderr)
        sys.stderr.flush()
    except OSError:
        _silence(sys.stderr)
    return status


def _cut_off(error: BaseException | None, verb: str) -> int:
    """End where nobody reads on (`thaw runs | head`, no mistake), or nothing more fits on the disk."""
    _silence(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return 141
    reason = error.strerror if isinstance(error, OSError) else error
    return _say(verb, [f"cannot write to standard output: {reason}"], EXIT_USER_ERROR)


def _silence(stream: TextIO) -> None:
    """Send what is left to nowhere, or Python would try again when it ends, and print a traceback."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
