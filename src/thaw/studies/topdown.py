"""Zhang et al. (ICASSP 2021): train the classifier first, freeze it, and train the layers below it anew.

The module is imported while the workflow is parsed, so nothing heavy is imported here: what draws is imported when an
exhibit is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from thaw.config.schema import StudySpec
from thaw.config.sources import Name, Split
from thaw.errors import suggestion
from thaw.planning import cascade, checks
from thaw.planning.grid import Grid, TreatmentsSpec
from thaw.planning.plan import Study, decodes

if TYPE_CHECKING:
    from thaw.config.config import Config
    from thaw.exhibits.spec import Exhibit
    from thaw.planning.cascade import CascadeSpec, DonorsSpec, Made

PAPER = "Zhang et al. 2021"
CREDIT = (
    "S. Zhang, C.-T. Do, R. Doddipatla, E. Loweimi, P. Bell and S. Renals, Train your classifier first: Cascade Neural "
    "Networks Training from upper layers to lower layers, ICASSP 2021"
)
PAPER_FINDING = (
    "With its classifier frozen and the layers below drawn anew and trained again on the same data, every model gets "
    "better: CTC on WSJ eval92 from 10.1 (mean of three seeds) to 8.5 % CER when all layers but the lowest go the same "
    "way one after the other, from 7.6 to 6.3 % with dropout; CTC-attention from 6.2 to 5.4 %, VGG from 5.4 to 5.2 %; "
    "Switchboard from 9.0 to 8.6 and CallHome from 18.1 to 17.2 % WER; WikiText-2 from 65.6 to 65.2 perplexity. With "
    "the lowest layer frozen instead it gets worse (10.5). A classifier serves the better the more data it has seen, "
    "and the better the less it has over-trained. One to three seeds, no intervals."
)


class Spec(StudySpec):
    """What a config says of this study."""

    kind: Literal["topdown"]
    cascades: Annotated[dict[Name, cascade.CascadeSpec], Field(min_length=1)]  # Algorithm 1, on one model each
    donors: cascade.DonorsSpec | None = None  # Section 3
    splits: Annotated[tuple[Split, ...], Field(min_length=1)] = ("test",)  # that are decoded


# --- runs -----------------------------------------------------------------------------------------


def plan(name: str, spec: Spec, config: Config) -> Study:
    """All stages of every cascade with every seed, its controls, and the donors. The config has passed `check`."""
    made = cascade.treatments(spec, config)
    grid = _grid(made.values(), made, config)
    runs = tuple(grid.run(one.cascade.corpus, key, seed) for key, one in made.items() for seed in one.seeds)
    decoded = tuple(
        decode
        for run in runs
        for split in spec.splits
        for decode in decodes(run, made[run.treatment].cascade.decoders, config, split)
    )
    return Study(name, spec, runs, decoded, places={key: one.place for key, one in made.items()})


def _grid(shown: Iterable[Made], made: Mapping[str, Made], config: Config) -> Grid:
    """The runs of some of the treatments; all others are there to be started from."""
    shown = list(shown)
    names = tuple(key for key, one in made.items() if one in shown)
    first = shown[0].cascade
    spec = TreatmentsSpec(
        kind="topdown",
        targets=tuple(dict.fromkeys(one.cascade.corpus for one in shown)),
        model=first.model,
        recipe=first.recipe,
        treatments=names,
        baseline=names[0],
        decoders=tuple(dict.fromkeys(decoder for one in shown for decoder in one.cascade.decoders)),
    )
    return Grid(spec, config.model_copy(update={"treatments": {key: one.treatment for key, one in made.items()}}))


# --- mistakes -------------------------------------------------------------------------------------


def check(name: str, spec: Spec, config: Config) -> Iterator[str]:
    """One line for each mistake that the schema cannot see."""
    where = f"studies.{name}"
    lines = [
        line for key, one in spec.cascades.items() for line in _names(f"{where}.cascades.{key}", one, spec, config)
    ]
    lines += _donor_names(f"{where}.donors", spec.donors, spec, config) if spec.donors else []
    yield from lines
    if lines:
        return
    try:
        made = cascade.treatments(spec, config)
    except KeyError as error:
        yield f"{where}: a model has no layer {error.args[0]!r}, which `stages` or `classifier` names"
        return
    for corpus in dict.fromkeys(one.cascade.corpus for one in made.values()):
        grid = _grid((one for one in made.values() if one.cascade.corpus == corpus), made, config)
        found = checks.check(name, grid.spec, grid.config)
        yield from (_in_words(line, where, made) for line in found)


def _in_words(line: str, where: str, made: Mapping[str, Made]) -> str:
    """A mistake in a treatment that the study made, where the config has it."""
    match = re.match(r"treatments\.([a-z0-9-]+)", line)
    if match is None or match[1] not in made:
        return line
    group = made[match[1]].place.group
    place = f"{where}.donors" if group == "donors" else f"{where}.cascades.{group}"
    return f"{place} ({match[1]}){line[match.end() :]}"


def _names(where: str, one: CascadeSpec, spec: Spec, config: Config) -> Iterator[str]:
    tables: list[tuple[str, Iterable[str], Mapping[str, Any]]] = [
        ("corpus", [one.corpus], config.corpora),
        ("model", [one.model], config.models),
        ("recipe", [one.recipe], config.recipes),
        ("decoders", one.decoders, config.decoders),
        ("swaps", one.swaps, spec.cascades),
    ]
    yield from _unknown(where, tables)
    for other in one.swaps:
        if other in spec.cascades and spec.cascades[other].corpus != one.corpus:
            yield f"{where}.swaps: {other!r} is trained on another corpus; its classes may mean other letters"
    if one.start_seed is not None and one.lowest + bool(one.swaps) and one.start_seed not in one.seeds:
        yield f"{where}.start_seed: {one.start_seed} is none of the seeds"


def _donor_names(where: str, donors: DonorsSpec, spec: Spec, config: Config) -> Iterator[str]:
    tables: list[tuple[str, Iterable[str], Mapping[str, Any]]] = [
        ("cascade", [donors.cascade], spec.cascades),
        ("shares", donors.shares, config.parts),
        ("unseen", [donors.unseen], config.parts),
    ]
    lines = list(_unknown(where, tables))
    yield from lines
    if lines:
        return
    shares, unseen = [config.parts[name] for name in donors.shares], config.parts[donors.unseen]
    if not unseen.rest or any(part.rest for part in shares):
        yield f"{where}: `unseen` is what a share leaves (`rest: true` in `parts`), and `shares` are shares"
    elif any((part.by, part.seed) != (unseen.by, unseen.seed) or part.share > unseen.share for part in shares):
        yield f"{where}.unseen: {donors.unseen} and the shares overlap; take shares within what it leaves out"
    if [part.share for part in shares] != sorted(part.share for part in shares):
        yield f"{where}.shares: give them from the smallest to the largest"
    if spec.cascades.keys() & {"donor", "from"}:
        yield f"{where}: a cascade is called donor or from; call it otherwise"


def _unknown(where: str, tables: Iterable[tuple[str, Iterable[str], Mapping[str, Any]]]) -> Iterator[str]:
    for key, names, table in tables:
        for wanted in names:
            if wanted not in table:
                yield f"{where}.{key}: {wanted!r} is not there; {suggestion(wanted, table)}"


EXHIBITS: dict[str, Exhibit] = {}
