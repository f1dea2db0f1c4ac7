"""What a config says of a decoder: how a trained model's outputs become text. Known without importing torch.

A new decoder is one class here and one module in `thaw.decoding`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from thaw.config.numbers import Count, Float, Int, Size, Some, Weight, Weights
from thaw.config.sources import Positive
from thaw.config.strict import Strict

# Characters that are left out of references and hypotheses before they are compared: those that stand for noises, say.
Letters = Annotated[str, Field(max_length=1000)]


class LanguageModelSpec(Strict):
    """A KenLM n-gram model of the training text (dev and test sentences excluded)."""

    order: Annotated[Int, Field(ge=2, le=6)] = 3  # KenLM packs no unigram model
    prune: Annotated[tuple[Count, ...], Field(max_length=6)] = ()
    extra_text: str = ""  # a file of more sentences, one a line
    discount_fallback: bool = True  # tiny corpora need it


class TuningSpec(Strict):
    """The grid of language model weights that is searched on dev, by rescoring n-best lists."""

    alpha: Weights = (0.0, 3.0)
    beta: Weights = (-1.0, 3.0)
    steps: Annotated[Positive, Field(le=1000)] = 13  # per axis
    nbest: Size = 50


class GreedySpec(Strict):
    """Best class per frame, repeats and blanks removed."""

    kind: Literal["greedy"]
    label: str = "greedy"
    leave_out: Letters = ""


class BeamSpec(Strict):
    """flashlight-text lexicon beam search with KenLM. alpha and beta are natural-log weights, as in DeepSpeech."""

    kind: Literal["beam"]
    label: str = "beam + LM"
    leave_out: Letters = ""
    beam: Size = 100
    beam_threshold: Some = 25.0
    tokens: Size = 50  # classes considered per frame
    language_model: LanguageModelSpec = LanguageModelSpec()
    alpha: Weight = 0.931289039105002  # the DeepSpeech 0.7 release's; where `tune` is set, the first pass's
    beta: Weight = 1.1834137581510284
    tune: TuningSpec | None = None


class JointSpec(Strict):
    """Beam search of a decoder and CTC together (Watanabe et al. 2017), as ESPnet does it; without a language model.

    Of a model with CTC alone, `ctc_weight: 1` searches for the likeliest text instead of the likeliest path.
    """

    kind: Literal["joint"]
    label: str = "joint"
    leave_out: Letters = ""
    beam: Annotated[Int, Field(ge=1, le=1000)] = 20
    ctc_weight: Annotated[Float, Field(ge=0, le=1)] = 0.3
    penalty: Weight = 0.0  # what each label adds to the score of a hypothesis that ends
    max_length_ratio: Annotated[Float, Field(ge=0, le=10)] = 0.0  # labels per frame of the encoder; 0: until it is over
    min_length_ratio: Annotated[Float, Field(ge=0, le=1)] = 0.0


class PerplexitySpec(Strict):
    """What a language model makes of every unit of a split, which is read as one text from its beginning to its end."""

    kind: Literal["perplexity"]
    label: str = "perplexity"


PriorScale = Annotated[Float, Field(ge=0, le=10)]


class HybridSpec(Strict):
    """A decoding graph of tied states, lexicon and trigram, searched with a network's scores (Bourlard & Morgan 1994):

        acoustic scale · (log posterior - prior scale · log prior)

    of each frame and state. Of several scales, those with the fewest word errors on dev.
    """

    kind: Literal["hybrid"]
    label: str = "hybrid"
    language_model: LanguageModelSpec = LanguageModelSpec()
    beam: Some = 13.0
    max_active: Size = 7000
    scales: Annotated[tuple[Some, ...], Field(min_length=1, max_length=50)] = (0.05, 0.07, 0.1, 0.14, 0.2, 0.3)
    prior_scales: Annotated[tuple[PriorScale, ...], Field(min_length=1, max_length=50)] = (1.0,)

    @property
    def tunes(self) -> bool:
        """Whether it needs dev."""
        return len(self.scales) * len(self.prior_scales) > 1


DecoderSpec = Annotated[GreedySpec | BeamSpec | JointSpec | PerplexitySpec | HybridSpec, Field(discriminator="kind")]
