"""Dry runs of a workspace, and the jobs that they list.

A dry run is the whole of `snakemake -n`, but in a fork of this process: importing Snakemake takes longer than the rest.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from tests.workflow.conftest import TOY, Workspace
from thaw.config.load import merged

HASH = re.compile(r"-[0-9a-f]{10}\b")
JOB = re.compile(r"^Job \d+: (.*)$", re.MULTILINE)


def listed(
    workspace: Workspace, *arguments: str, config: Path | None = None, versions: dict[str, int] | None = None
) -> Counter[str]:
    """The jobs that `snakemake -n` lists, by the message of their rule, hashes cut off."""
    shown = snakemake_here(workspace, ["-n", *arguments], config, versions)
    return Counter(HASH.sub("", job) for job in JOB.findall(shown))


def snakemake_here(
    workspace: Workspace, arguments: list[str], config: Path | None = None, versions: dict[str, int] | None = None
) -> str:
    """What Snakemake prints; fails the test, with that, where it fails. `versions` are of the rooms' code."""
    import snakemake.cli  # noqa: F401  (before the fork, once for all)

    command = [*workspace.command()[3:-1], str(config or workspace.config), *arguments]
    with tempfile.TemporaryFile("w+") as out:
        context = multiprocessing.get_context("fork")
        child = context.Process(target=_child, args=(workspace.root, command, out.fileno(), versions or {}))
        child.start()
        child.join()
        out.seek(0)
        shown = out.read()
    assert child.exitcode == 0, shown
    return shown


def _child(root: Path, command: list[str], out: int, versions: dict[str, int]) -> None:
    import snakemake.cli

    import thaw.config.run
    import thaw.planning.artifacts
    import thaw.planning.corpora
    import thaw.planning.grid

    for name, value in versions.items():
        for module in (thaw.planning.corpora, thaw.planning.artifacts, thaw.planning.grid, thaw.config.run):
            if hasattr(module, name):
                setattr(module, name, value)
    os.chdir(root)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    snakemake.cli.main(command)


def edited(folder: Path, over: dict[str, Any]) -> Path:
    """A config file outside the study: the toy's with parts replaced, and every key in another order than there."""
    path = folder / "edited.yaml"
    path.write_text(yaml.safe_dump(merged(yaml.safe_load(TOY.read_text()), over), allow_unicode=True, sort_keys=False))
    return path
