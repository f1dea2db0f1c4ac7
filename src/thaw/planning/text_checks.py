"""Mistakes about text and units that only the whole config shows: corpora without audio, classes, ways of judging."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from thaw.config.decoders import BeamSpec, PerplexitySpec
from thaw.config.schema import RecipeSpec, TreatmentSpec
from thaw.config.sources import TEXTS
from thaw.config.tasks import LanguageTaskSpec
from thaw.config.units import CHARACTERS

if TYPE_CHECKING:
    from thaw.config.config import Config


def check_text(
    here: str, how: TreatmentSpec, recipe: RecipeSpec, corpora: Iterable[str], decoders: Iterable[str], config: Config
) -> Iterator[str]:
    """One line for each mistake of a treatment with this recipe on these corpora, judged by these decoders."""
    language = isinstance(recipe.task, LanguageTaskSpec)
    for corpus in corpora:
        if isinstance(config.corpora[corpus].source, TEXTS) and not language:
            yield f"{here}: corpora.{corpus} is text without audio; the task {recipe.task.kind} learns from speech"
    for name in decoders:
        decoder = config.decoders[name]
        if isinstance(decoder, PerplexitySpec) != language:
            allowed = "perplexity" if language else "one that gives text"
            yield f"{here}: decoders.{name}: {decoder.kind} does not judge a {recipe.task.kind}; take {allowed}"
        elif isinstance(decoder, BeamSpec) and recipe.units != CHARACTERS:
            yield f"{here}: decoders.{name}: its lexicon spells characters, not {recipe.units.kind}; take greedy"
    if recipe.units == CHARACTERS:
        return
    for key, given in (
        ("corpora", how.corpora),
        ("alphabet", how.alphabet),
        ("output_rows", how.output_rows != "fresh"),
    ):
        if given:
            yield f"{here}.{key}: it is of characters, and the recipe's units are {recipe.units.kind}; leave it out"
