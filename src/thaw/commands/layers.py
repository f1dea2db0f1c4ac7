"""`thaw layers`: which layers of a trained run to freeze in a transfer: the evidence, and a treatment to paste."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaw.commands.options import DEFAULT_CONFIG, computing_in, count

if TYPE_CHECKING:
    from thaw.config.config import Config
    from thaw.config.models import ModelSpec

HELP = "which layers of a trained run to freeze in a transfer: evidence for each, and the treatment to paste"
EXAMPLE = "thaw layers english-deepspeech --target german --freeze 2 --by rgn"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("run_name", metavar="RUN", help="a run in results/runs (the beginning of its name is enough), or a path")
    add("--target", required=True, metavar="CORPUS", help="a corpus of the config, or a manifest of its utterances")
    add("--source", type=Path, metavar="MANIFEST", help="some of the run's own language (default: dev of its corpus)")
    add("--by", metavar="PREDICTOR", help="whose word is taken (default: depth, which none was shown to beat)")
    add("--freeze", type=count, metavar="N", help="how many layers to freeze (default: half of them)")
    add("--evidence", default="{}", metavar="JSON", help="an EvidenceSpec: how much is looked at")
    add("--config", type=Path, nargs="+", default=[DEFAULT_CONFIG], help="config files, later ones win")
    add("--threads", type=count, default=1, help="CPU threads (default: %(default)s)")
    add("--device", choices=("auto", "cpu", "cuda"), default="cpu", help="default: %(default)s")
    add("--out", type=Path, metavar="FILE", help="write the evidence there too (JSON)")


def run(args: argparse.Namespace) -> None:
    """Gather the evidence, print it, and the treatment that follows from it."""
    computing_in(args.threads)
    from thaw.commands.transcribe import find_model
    from thaw.config.evidence import EvidenceSpec
    from thaw.errors import UserError, suggestion
    from thaw.files import write_json
    from thaw.layers.predictors import PREDICTORS
    from thaw.planning import layout

    if args.by is not None and args.by not in PREDICTORS:
        raise UserError(f"--by: no predictor {args.by!r}; {suggestion(args.by, PREDICTORS)}")
    spec = EvidenceSpec.model_validate_json(args.evidence)
    model = find_model(args.run_name, Path(layout.RUNS))
    snapshots = model.with_name("snapshots.safetensors")
    target, source = manifests(args.target, args.source, model, args.config, spec.split)

    from thaw.layers.evidence import Question, gather

    kept = snapshots if snapshots.is_file() else None
    found = gather(Question(spec, model, target, source, kept, threads=args.threads, device=args.device))
    if args.out is not None:
        write_json(args.out, found)
    for line in page(found, args.by, args.freeze):
        print(line)


def manifests(
    target: str, source: Path | None, model: Path, config_files: list[Path], split: str
) -> tuple[Path, Path | None]:
    """The manifests of the target's training split and of the run's own language, the latter where it is known.

    UserError where the target is neither a file nor a corpus whose manifest has been made.
    """
    from pydantic import TypeAdapter

    from thaw.config.load import load
    from thaw.config.models import ModelSpec
    from thaw.errors import UserError, suggestion
    from thaw.models import load_tensors
    from thaw.planning import layout
    from thaw.planning.grid import manifest_of

    is_file = Path(target).is_file()
    if is_file and source is not None:
        return Path(target), source
    _, meta = load_tensors(model)
    spec: ModelSpec = TypeAdapter[ModelSpec](ModelSpec).validate_python(meta["model"])
    config = load(config_files)
    if is_file:
        path = Path(target)
    elif target not in config.corpora:
        known = suggestion(target, config.corpora)
        raise UserError(f"--target: {target!r} is no file and no corpus of the config; {known}")
    else:
        path = Path(layout.manifest(manifest_of(target, spec, config), "train.jsonl"))
        if not path.is_file():
            raise UserError(f"--target: {path}: the manifest of {target} is not made yet: snakemake {path}")
    return path, source or own_manifest(meta, spec, config, split)


def own_manifest(meta: Mapping[str, Any], spec: ModelSpec, config: Config, split: str) -> Path | None:
    """A manifest of the first corpus a run was trained on; None where the config has it not, or it is not made."""
    from thaw.planning import layout
    from thaw.planning.grid import manifest_of

    corpora = (meta.get("run") or {}).get("corpora", ())
    for name in config.corpora:
        manifest = manifest_of(name, spec, config)
        if corpora and manifest.hash == corpora[0]:
            path = Path(layout.manifest(manifest, f"{split}.jsonl"))
            return path if path.is_file() else None
    return None


# --- what is printed --------------------------------------------------------------------------------------------------


def page(found: Mapping[str, Any], by: str | None, freeze: int | None) -> list[str]:
    """The evidence as aligned text, what is missing, and the treatment."""
    from thaw.errors import UserError
    from thaw.layers.predictors import BASELINE, PREDICTORS, least_harm

    layers, scores = found["layers"], found["scores"]
    if by is not None and by not in scores:
        raise UserError(f"--by: {by} is not known of this run: {found['missing'][by]}")
    chosen = by or BASELINE
    number = freeze or max(1, len(layers) // 2)
    if number > len(layers):
        raise UserError(f"--freeze: the model has {len(layers)} layers below its output, not {number}")
    frozen, how = least_harm(chosen, scores[chosen], number), PREDICTORS[chosen]
    lines = table(found)
    lines += [f"{PREDICTORS[name].label}: not known: {why}" for name, why in found["missing"].items()]
    return [
        *lines,
        "",
        f"{number} of {len(layers)} layers, frozen with the least harm by {how.label} ({how.source}):",
        "",
        "treatments:",
        f"  frozen-by-{chosen}: {{start: source, reset: [output], freeze: [{', '.join(frozen)}]}}",
        "",
        "How well such predictions have held: docs/layers.md",
    ]


def table(found: Mapping[str, Any]) -> list[str]:
    """A row for each layer, a column for each predictor, a mark at the half of the layers that each would freeze."""
    from thaw.layers.predictors import PREDICTORS, least_harm

    layers, scores = found["layers"], found["scores"]
    half = max(1, len(layers) // 2)
    chosen = {name: least_harm(name, values, half) for name, values in scores.items()}
    cells = [["layer", *(PREDICTORS[name].label for name in scores)]]
    for layer in layers:
        numbers = (f"{scores[name][layer]:.4g}{'*' if layer in chosen[name] else ' '}" for name in scores)
        cells.append([layer, *numbers])
    cells.append(["seconds", *(f"{found['cost'].get(PREDICTORS[name].cost, 0.0):.1f} " for name in scores)])
    widths = [max(len(line[place]) for line in cells) for place in range(len(cells[0]))]
    rows = [
        "  ".join(text.ljust(width) if place == 0 else text.rjust(width)
                  for place, (text, width) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in cells
    ]  # fmt: skip
    return [*rows, f"* the {half} layers that this predictor would freeze"]
