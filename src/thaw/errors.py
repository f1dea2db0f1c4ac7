"""The errors a person reads: one line that says what, where and what to do."""

from __future__ import annotations

EXIT_USER_ERROR = 2
EXIT_UNFINISHED = 75  # BSD's EX_TEMPFAIL: stopped on purpose before the end; the same command goes on from there


class UserError(Exception):
    """Something the user can mend. The command line prints it as one line and exits with 2."""


class Unfinished(Exception):
    """The work stopped itself before the end (a time budget, a signal); the same command resumes it (exit 75)."""
