"""What a verb says, to people and to its log: a terminal that is gone, or a pipe that broke, ends no work.

`thaw --log FILE VERB …` copies all that is said to FILE by itself. A `| tee` would do the same until a signal reaches
the whole process group: then tee is gone before the trainer has said that it saved, and the shell has another exit
status than the verb.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO

from thaw.errors import UserError


class Console:
    """A text stream that writes to another one and to a log; what cannot be written to one of them is dropped there."""

    def __init__(self, stream: TextIO | None, log: TextIO | None) -> None:
        self.stream = stream  # None: closed before we began
        self.log = log

    def write(self, text: str) -> int:
        for target in (self.stream, self.log):
            if target is not None:
                with suppress(OSError, ValueError):  # gone, full, or closed
                    target.write(printable(text, target))
                    target.flush()
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def printable(text: str, stream: TextIO) -> str:
    """`text` with what the stream's encoding lacks (ASCII terminals) written as escapes."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


@contextmanager
def console(log: Path | None) -> Iterator[None]:
    """Say things through a Console while the block runs: stderr, and with a log stdout too.

    Raises UserError where the log cannot be written. It is appended to: Snakemake deletes it before each attempt, and
    the processes of one training share it.
    """
    with ExitStack() as stack:
        file: TextIO | None = None
        if log is not None:
            try:
                log.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(log.open("a", encoding="utf-8", errors="backslashreplace"))
            except OSError as error:
                raise UserError(f"--log {log}: cannot be written: {error.strerror}") from error
            stack.enter_context(redirect_stdout(Console(sys.stdout, file)))
        stack.enter_context(redirect_stderr(Console(sys.stderr, file)))
        yield
