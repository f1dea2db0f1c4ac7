"""The errors a person reads: one line that says what, where and what to do."""

from __future__ import annotations

import difflib
import errno
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


_CURES = {
    errno.ENOSPC: "free some space and run it again; what was finished is kept",
    errno.EDQUOT: "your quota is used up; free some space and run it again",
    errno.EACCES: "look at its permissions and its owner",
    errno.EPERM: "look at its permissions and its owner",
    errno.EROFS: "write to another disk",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "a file stands where a folder must be; move it away",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOENT: "look at the spelling, and whether the step before made it",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EIO: "the disk cannot be read; run it again, then look at the disk",
    errno.ESTALE: "the network disk has lost it; run it again",
    errno.ENOMEM: "give it more memory, or fewer threads",
}


def cure(error: BaseException) -> str:
    """One line of what the system threw, and what a person can do."""
    match error:
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            what = error.strerror or str(error) or type(error).__name__
            advice = _CURES.get(error.errno or 0)
            return f"{where}{what}" + (f"; {advice}" if advice else "")
        case MemoryError():
            return "out of memory; give it more, or smaller batches"
        case UnicodeDecodeError():
            return f"a file is not a UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        case UnicodeError():
            return f"a text holds half of a character, which no file can ({error})"
        case RecursionError():
            return "a file is nested too deeply to be one of thaw's"
    return f"{type(error).__name__}: {error}"


def suggestion(name: str, allowed: Iterable[str]) -> str:
    """What is allowed where `name` was not, the nearest spelling first."""
    allowed = list(allowed)
    near = difflib.get_close_matches(name, allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(allowed)}"
