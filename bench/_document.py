"""What benches printed, in a document: a block between two marks is what a bench printed last, and nobody edits it.

<!-- bench augment -->
…
<!-- end augment -->
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping

from bench._verdict import MARK


def described(command: str) -> str:
    """Where and when a bench is run, in one line; call it as it begins, since it tells how busy the machine is then."""
    import torch

    from thaw.training.environment import code_version, processor

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    cores = len(os.sched_getaffinity(0))
    load, version = os.getloadavg()[0], code_version()
    busy = f"busy with other work (load {load:.1f})" if load > cores / 2 else f"quiet (load {load:.1f})"
    where = f"{cores} cores of {processor()}{gpu}, {busy} when it began"
    commit = f"commit {version[:8]}{' and changes' if version.endswith('+') else ''}" if version else "no commit"
    return f"`{command}`: {where}; torch {torch.__version__}, {time.strftime('%Y-%m-%d')}, {commit}"


def block(printed: str, about: str) -> str:
    """What stands between the marks: where and when, the output as it was, its verdicts as a list."""
    lines = printed.rstrip().splitlines()
    table = "\n".join(line for line in lines if not line.startswith(MARK)).rstrip()
    verdicts = "\n".join(f"- {line.removeprefix(MARK)}" for line in lines if line.startswith(MARK))
    return f"{about}.\n\n```text\n{table}\n```\n" + (f"\n{verdicts}\n" if verdicts else "")


def replaced(text: str, blocks: Mapping[str, str]) -> tuple[str, list[str]]:
    """A document with these blocks in the places of those of the same names; and the names that have no place in it."""
    missing = []
    for name, content in blocks.items():
        first, last = f"<!-- bench {name} -->\n", f"<!-- end {name} -->"
        found = re.compile(re.escape(first) + ".*?" + re.escape(last), re.DOTALL)
        if not found.search(text):
            missing.append(name)
        text = found.sub(lambda _, first=first, content=content, last=last: f"{first}\n{content}\n{last}", text)  # type: ignore[misc]
    return text, missing


def names_in(text: str) -> list[str]:
    """The benches that a document has a block for, in its order."""
    return re.findall(r"^<!-- bench (\S+) -->$", text, re.MULTILINE)
