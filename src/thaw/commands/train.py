"""`thaw train`: one training, from wherever it is to its end."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from thaw.commands.options import computing_in, count, index, span

if TYPE_CHECKING:
    from thaw.config.run import RunRecipe

HELP = "train a model, or go on with a training that was stopped or killed"
EXAMPLE = (
    'thaw train --recipe "$(cat recipe.json)" --train train.jsonl --dev dev.jsonl --state state '
    "--model model.safetensors --optimizer optimizer.safetensors --record run.json --metrics metrics.jsonl"
)
REFUSED = "refused"  # in the run's state: why a try ended with exit 2; Snakemake's retries do not look at exit statuses
RESERVE_SECONDS = 180.0  # of a scheduler's time limit, for all before and after: imports from a network disk are slow
RESERVE_SHARE = 0.25  # of a short limit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `thaw train`."""
    add = parser.add_argument
    add("--recipe", required=True, metavar="JSON", help="what to train: a run recipe; defaults may be left out")
    add("--train", required=True, nargs="+", type=Path, metavar="JSONL", help="manifests to train on")
    add("--dev", required=True, nargs="+", type=Path, metavar="JSONL", help="manifests to choose the best epoch on")
    add("--start", nargs="?", type=Path, metavar="MODEL", help="model to start from, if the recipe has a start")
    add("--start-optimizer", nargs="?", type=Path, metavar="FILE", help="its optimizer state, if that is transferred")
    add("--load", nargs="*", type=Path, default=(), metavar="MODEL", help="models of the recipe's loads, in its order")
    add("--alignment", nargs="*", type=Path, default=(), metavar="FILE", help="alignments of --train, then of --dev")
    add("--ranking", nargs="?", type=Path, metavar="JSONL", help="rows of a probe, where the recipe has a ranking")
    add("--units", nargs="?", type=Path, metavar="FILE", help="its words or byte pairs, if it has no characters")
    add("--state", required=True, type=Path, metavar="DIR", help="where unfinished trainings live")
    add("--budget", type=span, default=0.0, metavar="S", help="stop, to go on later, within S seconds; 0: never")
    add("--runtime", type=span, default=0.0, metavar="MIN", help="stop within a job's time limit; 0: none")
    add("--wait", type=span, default=0.0, metavar="S", help="wait so long for another trainer of this run to end")
    add("--checkpoint-seconds", type=span, default=60.0, metavar="S", help="most seconds of work that a kill can lose")
    add(
        "--attempt",
        type=index,
        default=0,
        metavar="N",
        help="which try of a job this is: after the first, exit 2 is repeated at once",
    )
    add("--threads", type=count, default=1, metavar="N", help="CPU threads; another number gives other bits")
    add("--workers", type=count, default=1, metavar="N", help="processes for a federated training's clients; same bits")
    add("--features", type=Path, metavar="DIR", help="keep features there, for all trainings; of little audio: none")
    add("--features-gb", type=span, default=50.0, metavar="GB", help="that they may take there; 0: keep none")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute")
    add("--gpu-share", type=count, default=100, metavar="PER-CENT", help="of a GPU's memory, that it may take")
    add("--tensorboard", type=Path, metavar="DIR", help="write curves for TensorBoard to DIR")
    add("--model", required=True, type=Path, metavar="OUT", help="weights of the best epoch")
    add("--digest", type=Path, metavar="OUT", help="SHA-256 of the weights' file")
    add("--snapshots", type=Path, metavar="OUT", help="the other weights that the recipe keeps")
    add("--snapshots-digest", type=Path, metavar="OUT", help="SHA-256 of their file")
    add("--optimizer", required=True, type=Path, metavar="OUT", help="optimizer state of the best epoch")
    add("--record", required=True, type=Path, metavar="OUT", help="what was done, on what, at what cost (JSON)")
    add(
        "--metrics",
        required=True,
        type=Path,
        metavar="OUT",
        help="losses and error rates, one epoch a line (JSON Lines)",
    )


def run(args: argparse.Namespace) -> None:
    """Train. Raises UserError (exit 2) and Unfinished (exit 75: start the same command again)."""
    computing_in(args.threads)

    from thaw.errors import UserError
    from thaw.files import read_text, remove, write_text

    refused = args.state / REFUSED
    if args.attempt > 1 and refused.is_file():
        raise UserError(f"not tried again: {read_text(refused).strip()}")
    if args.attempt:
        remove(refused)
    try:
        start(args)
    except UserError as error:
        if args.attempt:
            with suppress(UserError):
                write_text(refused, f"{error}\n")
        raise


def start(args: argparse.Namespace) -> None:
    """Train, with the recipe and the places of the command line."""
    recipe = recipe_of(args.recipe)  # before torch is loaded, which takes seconds

    from thaw.training.begin import Job
    from thaw.training.session import train

    further = {"model.sha256": args.digest, "snapshots.safetensors": args.snapshots}
    further |= {"snapshots.sha256": args.snapshots_digest}
    train(
        Job(
            recipe=recipe,
            train=args.train,
            dev=args.dev,
            start=args.start,
            start_optimizer=args.start_optimizer,
            loads=args.load,
            alignments=args.alignment,
            ranking=args.ranking,
            units=args.units,
            state=args.state,
            budget=budget(args.budget, args.runtime),
            wait=args.wait,
            checkpoint_seconds=args.checkpoint_seconds,
            threads=args.threads,
            workers=args.workers,
            features=args.features,
            features_gb=args.features_gb,
            device=args.device,
            gpu_share=args.gpu_share,
            tensorboard=args.tensorboard,
            outputs={
                "model.safetensors": args.model,
                "optimizer.safetensors": args.optimizer,
                "run.json": args.record,
                "metrics.jsonl": args.metrics,
                **{name: path for name, path in further.items() if path},
            },
        )
    )


def recipe_of(text: str) -> RunRecipe:
    """The recipe in a JSON text; UserError for what is none, and for one of another version of the trainer."""
    from pydantic import ValidationError

    from thaw.config.models import layer_names
    from thaw.config.run import RunRecipe, train_version
    from thaw.errors import UserError

    try:
        recipe = RunRecipe.model_validate_json(text)
    except ValidationError as error:
        lines = [f"--recipe: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise UserError("\n".join(lines)) from error
    layers = layer_names(recipe.model, recipe.heads)
    version = train_version(recipe.model, layers, recipe.recipe, recipe.freeze, recipe.frozen)
    if recipe.version != version:
        raise UserError(
            f"--recipe: version: {recipe.version} is not what this thaw trains, {version}: it would be another "
            "training under that name"
        )
    return recipe


def budget(seconds: float, runtime_minutes: float) -> float:
    """Seconds that a training may take (0: any number), from its own limit and the scheduler's.

    A scheduler counts from before Python starts, and to after the last file is closed: some time is kept for that.
    """
    limits = [seconds] if seconds > 0 else []
    if runtime_minutes > 0:
        limit = 60 * runtime_minutes
        limits.append(limit - min(RESERVE_SECONDS, RESERVE_SHARE * limit))
    return min(limits, default=0.0)
