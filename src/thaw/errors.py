"""The errors a person reads: one line that says what, where and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_USER_ERROR = 2
EXIT_UNFINISHED = 75  # BSD's EX_TEMPFAIL: stopped on purpose before the end; the same command goes on from there


MOST_LETTERS = 1000  # of one line of a message


def on_one_line(text: str) -> str:
    """`text` without line breaks and other characters that a terminal obeys, and not longer than anybody reads."""
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return shown if len(shown) <= MOST_LETTERS else f"{shown[:MOST_LETTERS]} ..."


class UserError(Exception):
    """Something the user can mend. The command line prints it as one line and exits with 2."""


class Unfinished(Exception):
    """The work stopped itself before the end (a time budget, a signal); the same command resumes it (exit 75)."""


def suggestion(name: str, allowed: Iterable[str]) -> str:
    """What is allowed where `name` was not, the nearest spelling first."""
    allowed = list(allowed)
    near = difflib.get_close_matches(name, allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(allowed)}"
