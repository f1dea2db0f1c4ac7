"""`thaw runs`: the runs that a config resolves to, and how far each has come."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

HELP = "list the resolved runs of a config and their state"
EXAMPLE = "thaw runs --config config/config.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `thaw runs`."""
    parser.add_argument(
        "--config", type=Path, nargs="+", default=[Path("config/config.yaml")], help="config files, later ones win"
    )
    parser.add_argument("--json", action="store_true", help="print JSON Lines: one run a line, with its recipe")


def run(args: argparse.Namespace) -> None:
    """Print one line per run."""
    from thaw.config.load import load
    from thaw.plan import resolve

    plan = resolve(load(args.config))
    rows = [_row(run, Path(plan.config.execution.state)) for run in plan.runs.values()]
    if args.json:
        for row in rows:
            print(json.dumps(row, sort_keys=True, ensure_ascii=False))
        return
    width = max(len(row["run"]) for row in rows)
    print(f"{'run':{width}}  {'state':9}  {'epochs':>7}  {'dev loss':>8}  {'minutes':>7}")
    for row in rows:
        epochs = f"{row['epoch']}/{row['epochs']}" if row["epoch"] is not None else f"-/{row['epochs']}"
        loss = f"{row['dev_loss']:.2f}" if row["dev_loss"] is not None else "-"
        minutes = f"{row['seconds'] / 60:.1f}" if row["seconds"] is not None else "-"
        print(f"{row['run']:{width}}  {row['state']:9}  {epochs:>7}  {loss:>8}  {minutes:>7}")


def _row(run: Any, state_root: Path) -> dict[str, Any]:
    """What is known of one run: finished (from its record), under way (from its state folder), or nothing yet."""
    from thaw import layout
    from thaw.files import read_json

    row: dict[str, Any] = {
        "run": run.id,
        "state": "to do",
        "epoch": None,
        "epochs": run.recipe.recipe.epochs,
        "dev_loss": None,
        "seconds": None,
        "recipe": json.loads(run.recipe_json),
    }
    record = Path(layout.run(run, "run.json"))
    if record.exists():
        done = read_json(record)
        row |= {"state": "done", "epoch": done["epochs"], "dev_loss": done["best"]["dev_loss"]}
        return row | {"seconds": done["cost"]["seconds"]}
    folder = state_root / run.id
    for progress in sorted(folder.glob("*/progress.json")):
        now = read_json(progress)
        failed = any(progress.parent.glob("FAILED*"))
        row |= {"state": "failed" if failed else "begun", "epoch": now["epoch"], "dev_loss": now.get("dev_loss")}
        row |= {"seconds": now.get("seconds")}
    return row
