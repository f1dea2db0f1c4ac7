"""The errors a person reads: one line that says what, where and what to do."""

from __future__ import annotations

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
