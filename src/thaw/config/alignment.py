"""How speech is aligned with its text: the lexicon, and the GMM-HMM that gives every frame a tied state."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from thaw.config.decoders import LanguageModelSpec
from thaw.config.numbers import Int, Size, Some
from thaw.config.sources import Name, Positive
from thaw.config.strict import Strict


class EspeakLexicon(Strict):
    """Words as espeak-ng says them."""

    kind: Literal["espeak"] = "espeak"
    voice: str = ""  # one of espeak-ng's languages, e.g. "pt-br"; the key of the language where empty


class FileLexicon(Strict):
    """The user's own: one pronunciation a line, word, tab, phones."""

    kind: Literal["file"]
    path: str
    phones: tuple[str, ...] = ()  # all that there are: another one in the file is an error; any where empty


LexiconSpec = Annotated[EspeakLexicon | FileLexicon, Field(discriminator="kind")]


class SearchSpec(Strict):
    """How a graph is searched for words (Kaldi's beam search), with the language model that is in the graph."""

    language_model: LanguageModelSpec = LanguageModelSpec()
    beam: Some = 13.0
    max_active: Size = 7000
    # What log likelihoods are multiplied by. Of several, the one with the fewest word errors on dev.
    scales: Annotated[tuple[Some, ...], Field(min_length=1, max_length=50)] = (0.05, 0.07, 0.1, 0.14, 0.2)


class AlignmentSpec(Strict):
    """A GMM-HMM: monophones from a flat start, then tied states in context. Sizes are Kaldi's, of a middling recipe."""

    kind: Literal["gmm"] = "gmm"
    hours: Some = 100.0  # the GMM is trained on at most so much (drawn by utterance); all is aligned
    mono_hours: Some = 3.0  # of these, the shortest utterances, for the monophones
    mono_iterations: Positive = 40
    mono_gaussians: Size = 1000
    iterations: Positive = 35
    leaves: Annotated[Int, Field(ge=1, le=100_000)] = 2500  # tied states, at most
    gaussians: Annotated[Int, Field(ge=1, le=1_000_000)] = 15000
    seed: Int = 1
    search: SearchSpec = SearchSpec()  # of the GMM's own recognition
    languages: dict[Name, dict[str, Any]] = {}  # what a language changes in all of this, e.g. {eu: {leaves: 1600}}

    @model_validator(mode="after")
    def _fits_together(self) -> AlignmentSpec:
        if self.gaussians < self.leaves:
            raise ValueError(
                f"gaussians: {self.gaussians} are fewer than the {self.leaves} leaves, which need one each"
            )
        for language in self.languages:
            self.of(language)
        return self

    def of(self, language: str) -> AlignmentSpec:
        """The same for one language, with what that changes. ValueError, in one line, where it may not."""
        changes = self.languages.get(language, {})
        if "languages" in changes:
            raise ValueError(f"languages.{language}: languages within a language")
        try:
            return AlignmentSpec.model_validate({**self.model_dump(exclude={"languages"}), **changes})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in ("languages", language, *first["loc"]))
            raise ValueError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from error
