"""`thaw why`: what a result is made of, what changed in its recipe since the last one, and what Snakemake would run."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaw.commands.options import DEFAULT_CONFIG
from thaw.errors import UserError
from thaw.files import json_object

if TYPE_CHECKING:
    from thaw.planning.artifacts import Checkpoint, Decode, Evidence, Probe, Run
    from thaw.planning.plan import Plan
    from thaw.planning.showing import Showing

HELP = "say what a run, decode, exhibit or file is made of, and why Snakemake would make it again"
EXAMPLE = "thaw why german-deepspeech-frozen-2-s1"

JOB = re.compile(r"^Job \d+: (?P<job>.*)\nReason: (?P<reason>.*)$", re.MULTILINE)
HASH = re.compile(r"-[0-9a-f]{10}$")
SHOWN = 12  # jobs, and changes of one recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `thaw why`."""
    parser.add_argument(
        "target",
        nargs="?",
        help="a run, a decode (with or without its hash), an exhibit (table2), or a file; it may come last too",
    )
    parser.add_argument("--config", type=Path, nargs="+", default=[DEFAULT_CONFIG], help="config files, later ones win")


def run(args: argparse.Namespace) -> None:
    """Print what there is to say. Raises UserError for a target that the config does not have."""
    from thaw.config.load import load
    from thaw.planning.plan import resolve

    configs, target = told_apart(args.config, args.target)
    plan = resolve(load(configs))
    for number, thing in enumerate(find(plan, target)):
        if number:
            print()
        for line in explain(thing):
            print(line)
        for line in reasons(dry_run(configs, thing.outputs[0])):
            print(line)


def told_apart(configs: list[Path], target: str | None) -> tuple[list[Path], str]:
    """The configs and the target: after `--config`, which takes all that follows, the target is the last of them."""
    if target is None and len(configs) > 1:
        *configs, last = configs
        return configs, str(last)
    if target is None:
        raise UserError("name what to look at: a run, a decode, an exhibit (table2), or a file of results")
    return configs, target


@dataclass(frozen=True)
class Thing:
    """What a target turned out to be: its name, the verb that makes it, its files, and what is new in its recipe."""

    name: str
    verb: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    news: tuple[str, ...] = ()


# --- finding ----------------------------------------------------------------------------------------


def find(plan: Plan, target: str) -> list[Thing]:
    """The things that a target names: usually one; several where a name stands in several studies."""
    from thaw.planning import showing

    path = str(Path(target))
    things = [
        *(run_thing(one, plan) for one in plan.runs.values() if _names(target, one.name, one.id)),
        *(decode_thing(one) for one in plan.decodes.values() if _names(target, HASH.sub("", one.id), one.id)),
        *(probe_thing(one) for one in plan.probes.values() if _names(target, HASH.sub("", one.id), one.id)),
        *(evidence_thing(one) for one in plan.evidence.values() if _names(target, HASH.sub("", one.id), one.id)),
    ]
    for (study, name), one in showing.exhibits(plan).items():
        if target in (name, f"{study}/{name}") or path in one.outputs:
            things.append(exhibit_thing(study, name, one))
    if not things and "/" in target:
        things = [_owner(plan, path)]
    if not things:
        names = [*(one.name for one in plan.runs.values()), *(name for _, name in showing.exhibits(plan))]
        raise UserError(f"{target!r} is nothing of this config; there are, for instance: {', '.join(names[:SHOWN])}")
    return things


def _names(target: str, name: str, identity: str) -> bool:
    return target in (name, identity)


def _owner(plan: Plan, path: str) -> Thing:
    """The thing that a file belongs to; for files that people seldom ask for, only the file itself.

    Raises UserError for a file that lies elsewhere.
    """
    from thaw.planning import layout

    for run in plan.runs.values():
        if run.id in Path(path).parts:
            return run_thing(run, plan)
    for decode in plan.decodes.values():
        if decode.id in Path(path).parts:
            thing = decode_thing(decode)
            return Thing(thing.name, thing.verb, thing.inputs, (path,), thing.news)
    if Path(path).parts[:1] != (layout.RESULTS,):
        raise UserError(f"{path!r} is nothing that thaw makes; its files lie under {layout.RESULTS}/")
    return Thing(path, "Snakemake", (), (path,))


def run_thing(run: Run, plan: Plan) -> Thing:
    """A training."""
    from thaw.planning import layout
    from thaw.planning.news import corpus_news

    inputs = [layout.train_data(data) for data in run.data]
    inputs += [layout.manifest(data.manifest, "dev.jsonl") for data in run.data]
    inputs += [layout.weights(run.start, run.recipe.snapshot)] if run.start else []
    inputs += [layout.weights(one, load.snapshot) for one, load in zip(run.donors, run.recipe.loads, strict=True)]
    inputs += [layout.probe(run.ranking, "rows.jsonl")] if run.ranking else []
    inputs += [layout.alignment(one, f"{split}.safetensors") for split in ("train", "dev") for one in run.alignments]
    inputs += [layout.units(run.units, "units.json")] if run.units else []
    names = ["model.safetensors", "optimizer.safetensors", "model.sha256", "run.json", "metrics.jsonl"]
    names += ["snapshots.safetensors", "snapshots.sha256"] if run.keeps else []
    news = (*run_news(run, Path(plan.config.execution.state)), *corpus_news(run.manifest.corpus))
    return Thing(f"run {run.id}", "thaw train", tuple(inputs), tuple(layout.run(run, name) for name in names), news)


def decode_thing(decode: Decode) -> Thing:
    """A decode and its scores."""
    from thaw.planning import layout
    from thaw.planning.emissions import emission_of, read_of
    from thaw.planning.news import corpus_news

    emission = emission_of(decode)
    inputs = [layout.weights(decode.run, decode.snapshot)]
    inputs += [layout.emission(emission, name) for name in read_of(decode)] if emission else []
    inputs.append(layout.manifest(decode.manifest, f"{decode.split}.jsonl"))
    inputs += [layout.manifest(decode.manifest, "dev.jsonl")] if decode.tunes else []
    inputs += [layout.lm(decode.lm, name) for name in ("lm.binary", "lexicon.txt")] if decode.lm else []
    inputs += [layout.graph(decode.graph)] if decode.graph else []
    outputs = [layout.score(decode, "scores.json"), layout.decode(decode, "hypotheses.jsonl")]
    outputs.append(layout.decode(decode, "decode.json"))
    news = (*decode_news(decode), *corpus_news(decode.manifest.corpus))
    verbs = "thaw emit, thaw search, thaw score" if emission else "thaw decode, thaw score"
    return Thing(f"decode {decode.id}", verbs, tuple(inputs), tuple(outputs), news)


def probe_thing(probe: Probe) -> Thing:
    """A run evaluated with some of its layers changed."""
    from thaw.planning import layout

    inputs = [layout.run(probe.run, "model.safetensors")]
    inputs += [layout.run(probe.run, "snapshots.safetensors")] if probe.run.keeps else []
    inputs += [layout.manifest(probe.run.manifest, f"{split}.jsonl") for split in probe.spec.splits]
    names = ("rows.jsonl", "counts.jsonl", "hypotheses.jsonl", "probe.json")
    return Thing(f"probe {probe.id}", "thaw probe", tuple(inputs), tuple(layout.probe(probe, name) for name in names))


def evidence_thing(evidence: Evidence) -> Thing:
    """What is known of a transfer before it."""
    from thaw.planning import layout

    run = evidence.run
    inputs = [layout.run(run, "model.safetensors"), *([layout.run(run, "snapshots.safetensors")] if run.keeps else [])]
    inputs.append(layout.manifest(run.manifest, f"{evidence.spec.split}.jsonl"))
    inputs.append(layout.manifest(evidence.target, "train.jsonl"))
    return Thing(f"evidence {evidence.id}", "thaw evidence", tuple(inputs), (layout.evidence(evidence),))


def exhibit_thing(study: str, name: str, one: Showing) -> Thing:
    """A table or figure."""
    return Thing(f"{study}/{name}: {one.exhibit.title}", "thaw exhibit", tuple(one.inputs), tuple(one.outputs))


# --- what changed in a recipe -----------------------------------------------------------------------


def run_news(run: Run, state_root: Path) -> Iterator[str]:
    """How a run's recipe differs from the nearest other one that was trained, or begun, under the same name."""
    from thaw.planning import layout

    earlier: dict[str, dict[str, Any]] = {}
    for folder in _relatives(state_root, run.name, run.id):
        for file in folder.glob("*/recipe.json"):
            earlier[folder.name] = _full(json_object(file))
    for folder in _relatives(Path(layout.RUNS), run.name, run.id):
        earlier[folder.name] = _full(json_object(folder / "run.json").get("recipe", {}))
    now = run.recipe.model_dump(mode="json")
    nearest = _nearest(now, earlier)
    if nearest is None:
        return
    name, changes = nearest
    yield f"differs from {name} in"
    yield from (f"  {change}" for change in changes[:SHOWN])
    if any(change.startswith("corpora") for change in changes):
        yield "  (corpora: the text rules, the audio, the source, the user's own tables, or a version of the code)"
    if any(change.startswith(("start:", "loads:")) for change in changes):
        for one in run.origins:
            yield from (f"  {line}" for line in _origin_news(one, state_root))


def _origin_news(start: Run | Checkpoint, state_root: Path) -> Iterator[str]:
    from thaw.planning.artifacts import Run

    yield f"its start is {start.id}" + (", which" if isinstance(start, Run) else "")
    if isinstance(start, Run):
        yield from run_news(start, state_root)


def decode_news(decode: Decode) -> Iterator[str]:
    """How a decoder's settings differ from the nearest earlier decode under the same name."""
    from thaw.planning import layout

    name = HASH.sub("", decode.id)
    folders = _relatives(Path(layout.DECODES), name, decode.id)
    earlier = {folder.name: json_object(folder / "decode.json").get("decoder", {}) for folder in folders}
    nearest = _nearest(decode.spec.model_dump(mode="json"), earlier)
    if nearest:
        yield f"differs from {nearest[0]} in"
        yield from (f"  {change}" for change in nearest[1] or ["the run, the language model or the code's version"])


def _relatives(root: Path, name: str, identity: str) -> list[Path]:
    """Folders of the same name with another hash."""
    others = (path for path in root.glob(f"{name}-*") if HASH.sub("", path.name) == name)
    return sorted(path for path in others if path.name != identity)


def _nearest(now: dict[str, Any], earlier: dict[str, dict[str, Any]]) -> tuple[str, list[str]] | None:
    """The earlier recipe with the fewest differences, and these."""
    found = [(name, changes(before, now)) for name, before in sorted(earlier.items()) if before]
    return min(found, key=lambda item: len(item[1]), default=None)


def changes(before: Any, now: Any, where: str = "") -> list[str]:
    """The differences of two JSON values, one line each: `recipe.learning_rate: 0.001 → 0.002`."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        inner = [changes(before.get(key), now.get(key), f"{where}.{key}" if where else key) for key in keys]
        return [line for lines in inner for line in lines]
    return [] if before == now else [f"{where}: {_short(before)} → {_short(now)}"]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _full(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe with its defaults; empty where it is no recipe of this version of the code."""
    from pydantic import ValidationError

    from thaw.config.run import RunRecipe

    try:
        return RunRecipe.model_validate(recipe).model_dump(mode="json")
    except ValidationError:
        return {}


# --- what Snakemake would do ------------------------------------------------------------------------


def dry_run(configs: Iterable[Path], target: str) -> str:
    """What `snakemake -n TARGET` prints. Raises UserError with its last lines where it fails."""
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--configfile", *map(str, configs)]
    done = subprocess.run([*command, "--", target], capture_output=True, text=True, check=False)
    shown = done.stdout + done.stderr
    if "MissingRuleException" in shown:
        raise UserError(f"{target}: no rule of this config makes this file; an older config may have, or an older thaw")
    if done.returncode:
        raise UserError(f"snakemake -n failed: {last_words(shown)}")
    return shown


def last_words(shown: str) -> str:
    """The last line that says something, of all that Snakemake prints when it fails."""
    lines = [line.strip() for line in shown.splitlines() if any(letter.isalnum() for letter in line)]
    return lines[-1] if lines else "it said nothing"


def reasons(shown: str) -> list[str]:
    """The jobs of a dry run with short reasons; what only follows from another job is said as that."""
    found = [(match["job"], why(match["reason"])) for match in JOB.finditer(shown)]
    if not found:
        return ["Snakemake would run nothing for it"]
    lines = [f"Snakemake would run {len(found)} job{'s' * (len(found) > 1)} for it"]
    lines += [f"  {job}: {reason}" for job, reason in found[:SHOWN]]
    return lines + ([f"  ... and {len(found) - SHOWN} more"] if len(found) > SHOWN else [])


def why(reason: str) -> str:
    """Snakemake's reason for one job, in a few words."""
    parts = []
    for part in reason.split("; "):
        kind, _, what = part.partition(": ")
        if kind == "Params have changed since last execution":
            parts.append("settings changed" + _params(what))
        elif kind == "Set of input files has changed since last execution":
            parts.append("it reads other files than the last time")
        elif kind in WORDS:
            files = what.split(", ")
            parts.append(f"{WORDS[kind]} {files[0]}" + (f" and {len(files) - 1} more" if len(files) > 1 else ""))
        else:
            parts.append(part[:1].lower() + part[1:])
    own = [part for part in parts if not part.startswith(FOLLOWS)]
    return "; ".join(own or parts)  # what follows from another job goes without saying where there is more to say


FOLLOWS = "a job before it makes"
WORDS = {
    "Missing output files": "there is no",
    "Updated input files": "newer, with other contents:",
    "Input files updated by another job": FOLLOWS,
}


def _params(what: str) -> str:
    """The difference of two canonical parameters, where Snakemake names exactly one before and one now."""
    match = re.search(r"before: '(\{.*\})' now: '(\{.*\})'", what)
    if not match:
        return ""
    try:
        lines = changes(json.loads(match[1]), json.loads(match[2]))
    except ValueError:
        return ""
    return f" ({', '.join(lines[:3])}{', ...' if len(lines) > 3 else ''})"


def explain(thing: Thing) -> list[str]:
    """What a thing is, what it is made from, and what of it exists."""
    lines = [thing.name, f"  made by {thing.verb}"]
    if thing.inputs:
        lines.append("  from")
        lines += [f"    {_there(path)}  {path}" for path in thing.inputs[:SHOWN]]
        lines += [f"    ... and {len(thing.inputs) - SHOWN} more"] if len(thing.inputs) > SHOWN else []
    lines.append("  its files")
    lines += [f"    {_there(path)}  {path}" for path in thing.outputs]
    return lines + [f"  {line}" for line in thing.news]


def _there(path: str) -> str:
    return "there  " if Path(path).exists() else "missing"
