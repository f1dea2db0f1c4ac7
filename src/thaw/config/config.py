"""A whole config. Its studies are a union of what the modules of `thaw.studies` say that a study may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Union

from pydantic import Field, model_validator

from thaw.config.alignment import AlignmentSpec, LexiconSpec
from thaw.config.decoders import DecoderSpec
from thaw.config.models import ModelSpec
from thaw.config.schema import (
    CheckpointSpec,
    CorpusSpec,
    ExecutionSpec,
    PartSpec,
    RecipeSpec,
    ScoringSpec,
    StudySpec,
    TextSpec,
    TreatmentSpec,
)
from thaw.config.sources import Name
from thaw.config.starts import SOURCE
from thaw.config.strict import Strict
from thaw.studies import specs

if TYPE_CHECKING:
    AnyStudy = StudySpec
else:
    AnyStudy = Annotated[Union[specs()], Field(discriminator="kind")]  # noqa: UP007  (a tuple of classes)


class Config(Strict):
    """A whole config file, includes merged."""

    name: Name
    scale: Literal["mini", "paper"]
    languages: dict[Name, TextSpec]
    corpora: dict[Name, CorpusSpec]
    parts: dict[Name, PartSpec] = {}
    models: dict[Name, ModelSpec]
    checkpoints: dict[Name, CheckpointSpec] = {}
    lexicons: dict[Name, LexiconSpec] = {}  # by language; of a language without one, espeak-ng's
    alignments: dict[Name, AlignmentSpec] = {}
    recipes: dict[Name, RecipeSpec]
    treatments: dict[Name, TreatmentSpec]
    decoders: dict[Name, DecoderSpec]
    scoring: ScoringSpec = ScoringSpec()
    studies: Annotated[dict[Name, AnyStudy], Field(min_length=1)]
    execution: ExecutionSpec = ExecutionSpec()

    @model_validator(mode="after")
    def _names_are_free(self) -> Config:
        if SOURCE in self.treatments:
            raise ValueError(f"treatments.{SOURCE}: that word means the run that a study's treatments start from")
        return self

    @model_validator(mode="after")
    def _has_the_device(self) -> Config:
        recipes = [f"recipes.{name}" for name, recipe in self.recipes.items() if recipe.precision == "tf32"]
        changes = {name: treatment.recipe.get("precision") for name, treatment in self.treatments.items()}
        tf32 = [*recipes, *(f"treatments.{name}" for name, precision in changes.items() if precision == "tf32")]
        if self.execution.device == "cpu" and tf32:
            names = ", ".join(sorted(tf32))
            raise ValueError(f"execution.device: a CPU has no TF32, the precision of {names}; take cuda, or fp32")
        return self
