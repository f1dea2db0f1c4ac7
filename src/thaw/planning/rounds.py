"""A trained model that goes on as a federation of another corpus's speakers, once for each scheme of dropout.

A part of the study `ambient` (Zhou et al. 2022, Table 3): what its config says of it, its runs and its mistakes. Runs
of one seed start from the run of that seed, share their cohorts, and rank layers by a probe of that run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field, model_validator

from thaw.config.learners import FederatedSpec, UnitDropoutSpec
from thaw.config.models import layer_names
from thaw.config.numbers import Int
from thaw.config.run import RunRecipe, train_version
from thaw.config.schema import FrozenSpec, RecipeSpec
from thaw.config.sources import Name
from thaw.config.starts import BEST, FIRST
from thaw.config.strict import Strict
from thaw.errors import suggestion
from thaw.planning.artifacts import Decode, Probe, Run
from thaw.planning.grid import manifest_of
from thaw.planning.plan import decodes

if TYPE_CHECKING:
    from thaw.config.config import Config

PREFIX = "federated-"  # of treatments


class SchemeSpec(Strict):
    """One row: what clients lack."""

    label: str  # as tables print it
    dropout: UnitDropoutSpec | None = None  # nothing


class FederationSpec(Strict):
    """The base, whose speakers go on with it, how, and what each scheme has their networks lack."""

    model: Name  # a key of the study's models: its runs are the bases, and their probes rank the layers
    corpus: Name  # its speakers are the clients; judged on its dev and test
    recipe: Name  # whose learner is federated, and says nothing of dropout
    schemes: Annotated[dict[Name, SchemeSpec], Field(min_length=1)]
    baseline: Name  # the scheme that the others are compared to: without dropout
    seeds: Annotated[tuple[Int, ...], Field(min_length=1, max_length=1000)] = (1,)
    base_seed: Int | None = None  # all start from the base of this seed; where not given, each from that of its own
    decoders: Annotated[tuple[Name, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _has_its_baseline(self) -> FederationSpec:
        scheme = self.schemes.get(self.baseline)
        if scheme is None:
            raise ValueError(f"baseline: no scheme {self.baseline!r}; {suggestion(self.baseline, self.schemes)}")
        if scheme.dropout is not None:
            raise ValueError(f"baseline: {self.baseline!r} drops units; compare to a scheme that does not")
        return self

    def base_of(self, seed: int) -> int:
        """The seed of the run that a federation of this seed starts from."""
        return seed if self.base_seed is None else self.base_seed


class Base(NamedTuple):
    """What the runs of a seed start from, and what ranks its layers."""

    run: Run
    probe: Probe


class Federation(NamedTuple):
    """What a study gets: runs, and their decodes; the baseline's weights before the first round are judged too."""

    runs: tuple[Run, ...]
    decodes: tuple[Decode, ...]


def plan_federation(spec: FederationSpec, config: Config, bases: Mapping[int, Base]) -> Federation:
    """The runs of all schemes and seeds. The config has passed `check_federation`; `bases`: by seed."""
    runs, judged = list[Run](), list[Decode]()
    for name, scheme in spec.schemes.items():
        for seed in spec.seeds:
            run = federated_run(spec, name, scheme, seed, bases[spec.base_of(seed)], config)
            runs.append(run)
            for snapshot in (BEST, *([FIRST] if name == spec.baseline else [])):
                judged += decodes(run, spec.decoders, config, "test", snapshot)
    return Federation(tuple(runs), tuple(judged))


def federated_run(spec: FederationSpec, name: str, scheme: SchemeSpec, seed: int, base: Base, config: Config) -> Run:
    """The run of one scheme with one seed."""
    model = base.run.recipe.model
    manifest = manifest_of(spec.corpus, model, config)
    way = recipe_of(spec, name, base.run, config)
    ranked = bool(scheme.dropout and scheme.dropout.ranked)
    recipe = RunRecipe(
        version=train_version(model, layer_names(model), way, (), FrozenSpec()),
        model=model,
        alphabet=base.run.recipe.alphabet,
        corpora=(manifest.hash,),
        recipe=way,
        seed=seed,
        start=base.run.hash,
        ranking=base.probe.hash if ranked else "",
        units=base.run.recipe.units,
    )
    treatment = f"{PREFIX}{name}"
    return Run(
        f"{spec.corpus}-{base.run.model}-{treatment}-s{seed}", recipe, (manifest,), treatment, scheme.label, seed,
        base.run.model, start=base.run, ranking=base.probe if ranked else None, units=base.run.units,
    )  # fmt: skip


def recipe_of(spec: FederationSpec, name: str, base: Run, config: Config) -> RecipeSpec:
    """The recipe of one scheme; what is learnt, and in which units, is the base's."""
    whole = config.recipes[spec.recipe].model_dump()
    whole |= base.recipe.recipe.model_dump(include={"task", "units"})
    dropout = spec.schemes[name].dropout
    whole["learner"]["dropout"] = dropout.model_dump() if dropout else None
    if name == spec.baseline:
        whole["snapshots"] = tuple(dict.fromkeys((*whole["snapshots"], FIRST)))
    return RecipeSpec.model_validate(whole)


def check_federation(
    where: str, spec: FederationSpec, seeds: Mapping[str, Sequence[int]], language: str, config: Config
) -> Iterator[str]:
    """One line for each mistake. `seeds`: of the study's models; `language`: that they learnt."""
    for key, wanted, table in (
        ("model", spec.model, seeds),
        ("corpus", spec.corpus, config.corpora),
        ("recipe", spec.recipe, config.recipes),
        *(("decoders", decoder, config.decoders) for decoder in spec.decoders),
    ):
        if wanted not in table:
            yield f"{where}.{key}: {wanted!r} is not there; {suggestion(wanted, table)}"
    wanted_seeds = dict.fromkeys(map(spec.base_of, spec.seeds))
    if lacking := [seed for seed in wanted_seeds if seed not in seeds.get(spec.model, wanted_seeds)]:
        yield f"{where}.seeds: no base was trained with {', '.join(map(str, lacking))}; give base_seed, or train one"
    if spec.corpus in config.corpora and config.corpora[spec.corpus].language != language:
        yield f"{where}.corpus: {spec.corpus!r} is {config.corpora[spec.corpus].language}, the base {language}"
    recipe = config.recipes.get(spec.recipe)
    if recipe is None:
        return
    if not isinstance(recipe.learner, FederatedSpec):
        yield f"{where}.recipe: the learner of {spec.recipe!r} is {recipe.learner.kind}, not federated"
    elif recipe.learner.dropout:
        yield f"{where}.recipe: {spec.recipe!r} says what to drop, and so do the schemes; leave it out there"
