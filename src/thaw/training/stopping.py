"""When a training ends itself before it is done: a time budget, SIGTERM (the scheduler), SIGINT (Ctrl-C), SIGHUP."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ECHO_SECONDS = 2.0  # Ctrl-C reaches the whole group, and then Snakemake tells its jobs again: that is one wish
MARGIN_UNITS = 2.0  # slowest steps and slowest checkpoints to leave room for before the budget ends


def own_stack() -> None:
    """Have the main thread's signals handled on a stack of their own.

    Where a signal interrupts oneDNN's product of matrices for AVX-512, its handler seems to write over what that keeps
    beyond the end of the stack: of 98 trainings of an LSTM that were sent SIGTERM, 11 died of a corrupted heap, and
    none of 176 with this. Python's one call of sigaltstack(2) is in what tells where a process crashed.
    """
    if not faulthandler.is_enabled():
        faulthandler.enable(sys.__stderr__ or 2)


class Stop:
    """Watches signals and the clock while its block runs.

    Another signal, later than ECHO_SECONDS after the first, ends the process as it would have without.
    """

    def __init__(self, budget: float, began: float) -> None:
        """`budget` in seconds since `began` (time.monotonic()); 0 is none."""
        self.budget = budget
        self.began = began
        self.slowest_unit = 0.0
        self.slowest_save = 0.0
        self.signal_name = ""
        self.signalled = 0.0  # time.monotonic()
        self._earlier: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            own_stack()
            for number in SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
                    self._earlier[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self.signal_name:
            self.signal_name, self.signalled = signal.Signals(number).name, time.monotonic()
        elif time.monotonic() - self.signalled > ECHO_SECONDS:
            self._restore()
            os.kill(os.getpid(), number)

    def _restore(self) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        self._earlier.clear()

    def reason(self) -> str:
        """Why to stop now, in words; empty to go on."""
        if self.signal_name:
            return f"stopped by {self.signal_name}"
        margin = MARGIN_UNITS * (self.slowest_unit + self.slowest_save)
        if self.budget and time.monotonic() - self.began + margin > self.budget:
            return f"time budget of {self.budget:g} s is used up"
        return ""
