"""What the tests of downloads share: a file, little patience, and messages that must be short, soon and quiet."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from thaw.corpora.download import download
from thaw.corpora.web import Patience
from thaw.errors import UserError

DATA = random.Random(1).randbytes(300_000)
HALF = len(DATA) // 2
REST = f"bytes={HALF}-"
HASTE = Patience(retries=3, timeout=0.2, first_wait=0.01, longest_wait=0.05)
KEY = "key-d3adb33f"
SIGNATURE = "X-Signature=5ec7e75196"


def refused(*args: Any, **options: Any) -> str:
    """The message of a download that must fail, soon."""
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        download(*args, **{"patience": HASTE} | options)
    assert time.monotonic() - started < 5
    assert "\n" not in str(caught.value)
    return str(caught.value)


def everything(error: BaseException | None) -> str:
    """All that an exception says, with all that it drags along."""
    return f"{error} {error!r} {everything(error.__cause__)} {everything(error.__context__)}" if error else ""
