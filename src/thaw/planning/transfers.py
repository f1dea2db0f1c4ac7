"""Transfers that ask which layers to freeze: evidence beforehand, every layer frozen alone, and some sets of them.

Nothing is chosen while trainings run: all sets are fixed by the config, and a prediction chooses among those tried.
Each transfer is a small grid (`thaw.planning.grid`), so a set that some treatment of the config freezes in the same way
is that treatment's run, trained once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from thaw.config.evidence import EvidenceSpec
from thaw.config.layers import OUTPUT, named_layers
from thaw.config.models import head_names, layer_names
from thaw.config.numbers import Float, Int
from thaw.config.schema import FrozenSpec, SourceSpec, StudySpec, TreatmentSpec
from thaw.config.sources import Name, OwnSource
from thaw.config.starts import SOURCE
from thaw.config.strict import Strict
from thaw.errors import suggestion
from thaw.planning import checks
from thaw.planning.artifacts import Decode, Evidence, Run
from thaw.planning.grid import Grid, GridSpec, manifest_of
from thaw.planning.plan import Study, Transfer, decodes

if TYPE_CHECKING:
    from thaw.config.config import Config

MOST_RUNS = 20_000  # of one study


class TransferSpec(Strict):
    """One transfer: a source run of our own, a target, and how it is trained there."""

    source: SourceSpec
    target: Name
    recipe: Name
    label: str = ""  # as tables print it; model and languages where empty


class TransfersSpec(StudySpec):
    """What a study of transfers says; a kind of study adds its `kind`."""

    transfers: Annotated[dict[Name, TransferSpec], Field(min_length=1)]
    seeds: Annotated[tuple[Int, ...], Field(min_length=1, max_length=1000)] = (1,)
    decoder: Name
    measure: Literal["word", "char"] = "word"  # that harm is shown by first; the other one stands below
    evidence: EvidenceSpec = EvidenceSpec()
    # Sets beside nothing and each layer alone: so large a share of the layers from the input side, and from the output.
    shares: tuple[Annotated[Float, Field(gt=0, lt=1)], ...] = (0.5,)
    frozen: FrozenSpec = FrozenSpec()


def sets_of(layers: tuple[str, ...], shares: tuple[float, ...]) -> dict[str, tuple[str, ...]]:
    """The sets that are tried, by name: nothing, each layer alone, then the first and the last ones by share."""
    found: dict[str, tuple[str, ...]] = {"freeze-none": ()}
    found |= {f"freeze-{layer.replace('_', '-')}": (layer,) for layer in layers}
    for share in shares:
        count = math.ceil(share * len(layers))
        if 1 < count < len(layers):
            found |= {f"freeze-first-{count}": layers[:count], f"freeze-last-{count}": layers[-count:]}
    return found


# --- mistakes -------------------------------------------------------------------------------------


def check(name: str, spec: TransfersSpec, config: Config) -> Iterator[str]:
    """One line for each mistake that the schema cannot see."""
    where = f"studies.{name}"
    if spec.decoder not in config.decoders:
        yield f"{where}.decoder: {spec.decoder!r} is not there; {suggestion(spec.decoder, config.decoders)}"
        return
    runs = 0
    for key, transfer in spec.transfers.items():
        here = f"{where}.transfers.{key}"
        if transfer.source.model not in config.models:
            known = suggestion(transfer.source.model, config.models)
            yield f"{here}.source.model: {transfer.source.model!r} is not there; {known}"
            continue
        if transfer.source.checkpoint is not None:
            yield f"{here}.source: evidence is gathered of runs: give corpus and recipe, not a checkpoint"
            continue
        target = config.corpora.get(transfer.target)
        if target and isinstance(target.source, OwnSource) and target.source.folds:
            yield f"{here}.target: {transfer.target!r} has folds, which transfers are not measured in; name one without"
            continue
        grid, whole = _grid(spec, transfer, config)
        runs += len(grid.treatments) * len(spec.seeds)
        yield from checks.check(f"{name}.transfers.{key}", grid, whole)
    if runs > MOST_RUNS:
        yield f"{where}: transfers × sets × seeds are {runs:,} trainings; at most {MOST_RUNS:,}"


# --- runs -----------------------------------------------------------------------------------------


def plan(name: str, spec: TransfersSpec, config: Config) -> Study:
    """The runs, decodes and evidence of all transfers. The config has passed `check`."""
    transfers: list[Transfer] = []
    runs: dict[str, Run] = {}
    decoded: dict[str, Decode] = {}
    for key, transfer in spec.transfers.items():
        grid_spec, whole = _grid(spec, transfer, config)
        grid = Grid(grid_spec, whole)
        source = grid.source
        assert isinstance(source, Run)  # see check
        tried = _tried(spec, transfer, config)
        made = {
            treatment: tuple(grid.run(transfer.target, treatment, seed) for seed in spec.seeds) for treatment in tried
        }
        evidence = Evidence(source, manifest_of(transfer.target, source.recipe.model, config), spec.evidence)
        label = transfer.label or _label(source, evidence)
        transfers.append(Transfer(key, label, evidence, trunk(transfer, config), tried, made, spec.measure))
        for run in (source, *(run for group in made.values() for run in group)):
            decoded.update((decode.id, decode) for decode in decodes(run, [spec.decoder], config))
        runs.update((run.id, run) for group in made.values() for run in group)
    sources = {transfer.evidence.run.id: transfer.evidence.run for transfer in transfers}
    return Study(
        name, spec, tuple(runs.values()), tuple(decoded.values()), sources=tuple(sources.values()),
        transfers=tuple(transfers),
    )  # fmt: skip


def trunk(transfer: TransferSpec, config: Config) -> tuple[str, ...]:
    """The layers that a transfer may freeze: all but the heads."""
    model = config.models[transfer.source.model]
    return tuple(layer for layer in layer_names(model) if layer not in head_names(model))


def _label(source: Run, evidence: Evidence) -> str:
    labels = (source.manifest.corpus.spec.label, evidence.target.corpus.spec.label)
    return f"{source.model}, {' → '.join(labels)}"


def _tried(spec: TransfersSpec, transfer: TransferSpec, config: Config) -> dict[str, tuple[str, ...]]:
    """Treatment -> the layers it freezes; by the name of a treatment of the config where one does just that."""
    sets = sets_of(trunk(transfer, config), spec.shares)
    return {_shared(frozen, spec, transfer, config) or name: frozen for name, frozen in sets.items()}


def _grid(spec: TransfersSpec, transfer: TransferSpec, config: Config) -> tuple[GridSpec, Config]:
    """A transfer as a grid, and the config with the treatments of that grid in it."""
    tried = _tried(spec, transfer, config)
    made = {
        name: TreatmentSpec(start=SOURCE, reset=(OUTPUT,), freeze=frozen, frozen=spec.frozen)
        for name, frozen in tried.items()
    }
    whole = config.model_copy(update={"treatments": {**config.treatments, **made}})
    grid = GridSpec(
        kind=spec.kind, source=transfer.source, targets=(transfer.target,), model=transfer.source.model,
        recipe=transfer.recipe, treatments=tuple(tried), baseline=next(iter(tried)), seeds=spec.seeds,
        decoders=(spec.decoder,),
    )  # fmt: skip
    return grid, whole


def _shared(frozen: tuple[str, ...], spec: TransfersSpec, transfer: TransferSpec, config: Config) -> str:
    """The first treatment of the config that does to this model what freezing `frozen` does; empty without one."""
    model = config.models[transfer.source.model]
    layers, heads = layer_names(model), head_names(model)
    plain = TreatmentSpec(start=SOURCE, frozen=spec.frozen if frozen else FrozenSpec())
    for name, how in config.treatments.items():
        rest = how.model_copy(update={"label": "", "reset": (), "freeze": ()})
        rest = rest if frozen else rest.model_copy(update={"frozen": FrozenSpec()})
        if rest != plain:
            continue
        try:
            same = named_layers(how.reset, layers, heads) == heads and named_layers(how.freeze, layers, heads) == frozen
        except KeyError:  # a layer of another model
            continue
        if same:
            return name
    return ""
