"""`thaw runs`: the runs that a config resolves to, how far each has come, and what it has cost."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaw.commands.options import DEFAULT_CONFIG

if TYPE_CHECKING:
    from thaw.planning.artifacts import Run

HELP = "list the resolved runs of a config: state, progress, where it stopped, cost so far"
EXAMPLE = "thaw runs --config config/config.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `thaw runs`."""
    parser.add_argument("--config", type=Path, nargs="+", default=[DEFAULT_CONFIG], help="config files, later ones win")
    parser.add_argument("--json", action="store_true", help="print JSON Lines: one run a line, with its recipe")


def run(args: argparse.Namespace) -> None:
    """Print one line per run, and a sum."""
    from thaw.config.load import load
    from thaw.planning.plan import resolve

    plan = resolve(load(args.config))
    rows = [row(one, Path(plan.config.execution.state)) for one in plan.runs.values()]
    if args.json:
        for one in rows:
            print(json.dumps(one, sort_keys=True, ensure_ascii=False))
        return
    for line in table(rows):
        print(line)


def row(run: Run, state_root: Path) -> dict[str, Any]:
    """What is known of one run: finished (from its record), under way (from its latest state), or nothing yet."""
    from thaw.planning import layout
    from thaw.training.states import states

    known: dict[str, Any] = {
        "run": run.id,
        "state": "to do",
        "epoch": None,
        "epochs": run.recipe.recipe.epochs,
        "step": None,
        "steps": None,
        "best": None,
        "seconds": None,
        "attempts": None,
        "note": "",
        "recipe": json.loads(run.recipe_json),
    }
    record = Path(layout.run(run, "run.json"))
    if record.exists():
        return known | finished(record)
    for state in states(state_root, run.id)[:1]:
        known |= {"state": state.name, "epoch": state.epoch, "step": state.step, "steps": state.steps}
        known |= {"best": state.best, "seconds": state.seconds, "attempts": state.attempts, "note": state.note}
        if state.name == "done":
            known["note"] = "its files are copied back from the state folder when they are needed"
    return known


def finished(record: Path) -> dict[str, Any]:
    """What the record of a training says of it, or that it says nothing."""
    from thaw.errors import UserError
    from thaw.files import read_json
    from thaw.training.states import best_of

    try:
        done = read_json(record)
        return {
            "state": "done",
            "epoch": int(done["epochs"]),
            "step": int(done["steps"]),
            "steps": int(done["steps"]),
            "best": best_of(done),
            "seconds": float(done["cost"]["seconds"]),
            "attempts": int(done["cost"]["attempts"]),
        }
    except UserError as error:
        return {"state": "damaged", "note": str(error)}
    except (KeyError, TypeError, ValueError):
        note = f"{record}: not the record of a training; delete it, and it is made again"
        return {"state": "damaged", "note": note}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as aligned text, then a line for each note, then a sum."""
    columns = ("run", "state", "epochs", "step", "best dev", "minutes", "starts")
    cells = [columns, *(_cells(one) for one in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    lines = []
    for line in cells:
        texts = [text.ljust(width) if place < 2 else text.rjust(width)
                 for place, (text, width) in enumerate(zip(line, widths, strict=True))]  # fmt: skip
        lines.append("  ".join(texts))
    for one in rows:
        if one["note"]:
            place = "" if one["state"] == "damaged" else f" {where(one)}"
            lines.append(f"{one['run']}: {one['state']}{place}: {one['note']}")
    counts = {state: sum(one["state"] == state for one in rows) for state in dict.fromkeys(r["state"] for r in rows)}
    minutes = sum(one["seconds"] or 0.0 for one in rows) / 60
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    return [*lines, f"{len(rows)} runs: {told}; {minutes:.1f} minutes of training so far"]


def where(known: dict[str, Any]) -> str:
    """Where a training is or stopped, in words."""
    if known["epoch"] is None:
        return "before its first step"
    return f"at epoch {known['epoch']} of {known['epochs']}, step {known['step']} of {known['steps']}"


def _cells(known: dict[str, Any]) -> tuple[str, ...]:
    def shown(key: str, form: str = "{}", scale: float = 1) -> str:
        return "-" if known[key] is None else form.format(known[key] / scale if scale != 1 else known[key])

    epochs = f"{shown('epoch')}/{known['epochs']}"
    step = f"{shown('step')}/{shown('steps')}"
    minutes = shown("seconds", "{:.1f}", 60)
    return known["run"], known["state"], epochs, step, _best(known["best"]), minutes, shown("attempts")


def _best(best: dict[str, Any] | None) -> str:
    """What selects, at the best epoch so far."""
    from thaw.training.recorders import name_of, selected, shown

    return f"{name_of(selected(best))} {shown(selected(best), best[selected(best)])}" if best else "-"
