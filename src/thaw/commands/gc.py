"""`thaw gc`: results that no given config names any more. It lists them; only --yes deletes."""

from __future__ import annotations

import argparse
import fcntl
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thaw.commands.options import DEFAULT_CONFIG
from thaw.errors import UserError
from thaw.files import seal_of

if TYPE_CHECKING:
    from thaw.planning.plan import Plan

HELP = "list results that no given config names, and delete them with --yes"
EXAMPLE = "thaw gc --config config/config.yaml config/paper.yaml"
DOWNLOADS = "files"  # what `thaw fetch` got or made, in a corpus's folder
WRITING_SECONDS = 3600.0  # half a file that was written to since then may be at work: a job outlives its Snakemake


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `thaw gc`."""
    parser.add_argument(
        "--config",
        nargs="+",
        default=[str(DEFAULT_CONFIG)],
        metavar="FILE",
        help="all that any of these configs names is kept; files of one merged config are joined by commas",
    )
    parser.add_argument("--corpora", action="store_true", help="also the downloads of corpora that no config names")
    parser.add_argument("--features", action="store_true", help="also kept features that trainings may still want")
    parser.add_argument(
        "--emissions",
        action="store_true",
        help="also log-probabilities that have been searched by all who ask for them",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="list only; this is what happens without --yes too")
    how.add_argument("--yes", action="store_true", help="delete what is listed")


def run(args: argparse.Namespace) -> None:
    """List, or delete. Raises UserError, with nothing deleted, where something is in use."""
    from thaw.config.load import load
    from thaw.planning.plan import resolve

    plans = [resolve(load(Path(file) for file in files.split(","))) for files in args.config]
    everything = list(unnamed(plans, args.corpora, args.features))
    everything += searched(plans) if args.emissions else []
    found = [item for item in everything if not item.foreign]
    for item in everything:
        if item.foreign:
            print(f"      kept  {item.path}: {item.foreign}")
    for item in found:
        print(f"{size_text(item.bytes):>10}  {item.path}")
    total = f"{len(found)} things that no config of {', '.join(plan.config.name for plan in plans)} names"
    total += f", {size_text(sum(item.bytes for item in found))}"
    if not args.yes:
        print(f"{total}; nothing was deleted" + (" (--yes deletes them)" if found else ""))
        return
    delete(found)
    print(f"{total}: deleted")


@dataclass(frozen=True)
class Item:
    """A file or folder that may go; or, with a reason in `foreign`, one that nobody names and that is not thaw's."""

    path: Path
    bytes: int = 0
    state: bool = False  # of trainings: they may be at work in it
    foreign: str = ""


def unnamed(plans: Iterable[Plan], corpora: bool, features: bool) -> Iterator[Item]:
    """What lies under results/ and is named by none of the plans; downloads of corpora only where asked for.

    Kept features go where no run reads the like of them, or where asked for: a training at work goes on without.
    """
    from thaw.files import json_object
    from thaw.planning import layout, ours

    plans = list(plans)
    kept: dict[str, set[str]] = {
        layout.RUNS: {name for plan in plans for name in plan.runs},
        layout.CHECKPOINTS: {name for plan in plans for name in plan.checkpoints},
        layout.EMISSIONS: {name for plan in plans for name in plan.emissions},
        layout.DECODES: {name for plan in plans for name in (*plan.decodes, *plan.gmms)},
        layout.SCORES: {name for plan in plans for name in (*plan.decodes, *plan.gmms)},
        layout.LEXICONS: {name for plan in plans for name in plan.lexicons},
        layout.ALIGNMENTS: {name for plan in plans for name in plan.alignments},
        layout.GRAPHS: {name for plan in plans for name in plan.graphs},
        layout.PROBES: {name for plan in plans for name in plan.probes},
        layout.EVIDENCE: {name for plan in plans for name in plan.evidence},
        layout.PARTS: {name for plan in plans for name in plan.parts},
        layout.LMS: {name for plan in plans for name in plan.lms},
        layout.UNITS: {name for plan in plans for name in plan.units},
        layout.MANIFESTS: {name for plan in plans for name in plan.manifests},
        layout.AUDIO: {name for plan in plans for name in plan.audio},
        layout.CORPORA: {name for plan in plans for name in plan.sources},
    }
    for root in sorted({plan.config.execution.state for plan in plans}):
        for path in _others(Path(root), kept[layout.RUNS]):
            reason = ours.foreign_state(path)
            yield Item(path, foreign=reason) if reason else Item(path, size(path), state=True)
    frontends = {run.recipe.model.frontend for plan in plans for run in plan.runs.values()}
    for root in sorted({plan.config.execution.features for plan in plans}):
        for path in _others(Path(root), set()):
            if features or json_object(path / "store.json").get("frontend") not in frontends:
                reason = ours.foreign_features(path)
                yield Item(path, foreign=reason) if reason else Item(path, size(path))
    for root, names in kept.items():
        for path in _others(Path(root), names):
            if reason := ours.foreign(root, path):
                yield Item(path, foreign=reason)
                continue
            whole = corpora or root != layout.CORPORA
            for part in [path] if whole else sorted(one for one in path.iterdir() if one.name != DOWNLOADS):
                yield Item(part, size(part))


def searched(plans: Iterable[Plan]) -> Iterator[Item]:
    """Log-probabilities of emissions whose decodes are all there, and what interrupted passes left of others."""
    from thaw.planning import layout
    from thaw.planning.emissions import emission_of

    asked: dict[str, bool] = {}
    for decode in (decode for plan in plans for decode in plan.decodes.values()):
        if emission := emission_of(decode):
            there = Path(layout.decode(decode, "hypotheses.jsonl")).exists()
            asked[emission.id] = asked.get(emission.id, True) and there
    for id, done in sorted(asked.items()):
        folder = Path(layout.EMISSIONS) / id
        found = [*folder.glob(".*.part"), *(folder.glob("*.safetensors") if done else ())]
        for path in sorted(found):
            writing = path.suffix == ".part" and time.time() - path.lstat().st_mtime < WRITING_SECONDS
            yield Item(path, foreign="somebody may be writing it") if writing else Item(path, size(path))


def _others(root: Path, names: set[str]) -> list[Path]:
    """Folders under `root` that nobody names."""
    if not root.is_dir():
        return []
    folders = (path for path in root.iterdir() if path.is_dir() and not path.is_symlink())
    return sorted(path for path in folders if path.name not in names)


def delete(items: Iterable[Item]) -> None:
    """Delete all items, holding the locks of the trainings among them; or raise UserError and delete none."""
    items = list(items)
    running = sorted(Path(".snakemake/locks").glob("*")) if Path(".snakemake/locks").is_dir() else []
    if running:
        raise UserError("Snakemake is at work in this folder; wait for it (after a kill: snakemake --unlock). Kept all")
    with ExitStack() as locks:
        for item in items:
            if item.state:
                _lock(item.path, locks)
        for item in items:
            if item.path.is_dir():
                shutil.rmtree(item.path)
            else:
                item.path.unlink()
                seal_of(item.path).unlink(missing_ok=True)


def _lock(run_folder: Path, locks: ExitStack) -> None:
    """Hold the lock of each training in a run's state; UserError where a living trainer has it."""
    from thaw.training.states import held

    for folder in sorted(path for path in run_folder.iterdir() if path.is_dir()):
        if held(folder):
            raise UserError(f"{folder}: a trainer is at work here; wait for it, or end it first. Kept all")
        file = locks.enter_context((folder / "lock").open("a"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{folder}: a trainer is at work here; wait for it, or end it first. Kept all") from error


def size(path: Path) -> int:
    """Bytes of a file, or of all files under a folder; links count as themselves."""
    paths = path.rglob("*") if path.is_dir() else [path]
    return sum(each.lstat().st_size for each in paths if not each.is_dir())


def size_text(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
