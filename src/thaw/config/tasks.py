"""What a config says of a task: what is learnt, and how it is judged. Known without importing torch.

A new task is one class here and one module in `thaw.tasks`; `TaskSpec` is then a union by `kind`. No `kind` has a
default, since defaults are dropped before a recipe is hashed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from thaw.config.numbers import Amount, Count, Float, Fraction, Positive, Size, Some
from thaw.config.strict import Strict


class CtcSpec(Strict):
    """Connectionist temporal classification (Graves et al. 2006): the units and a blank, one class per frame."""

    kind: Literal["ctc"]
    selects: Literal["loss", "cer", "wer"] = "loss"  # of dev: which says what epoch is the best


class FramesSpec(Strict):
    """A tied state for every frame, from an alignment (`thaw align`): what a DNN of a hybrid learns."""

    kind: Literal["frames"]
    # A row of a batch is so many frames drawn at random, of one language; 0: an utterance, whose frames are neighbours.
    drawn: Annotated[Count, Field(le=1_000_000)] = 0
    pool_hours: Some = 10.0  # frames are drawn from so much speech at a time, which is in memory

    @model_validator(mode="after")
    def _fits_together(self) -> FramesSpec:
        if not self.drawn and self.pool_hours != type(self).model_fields["pool_hours"].default:
            raise ValueError("pool_hours: of what? set drawn, and frames are drawn from pools")
        return self


class LanguageTaskSpec(Strict):
    """The next unit of a running text, sentence after sentence, each with an end.

    Source: Merity et al. (2018), "Regularizing and Optimizing LSTM Language Models"; salesforce/awd-lstm-lm main.py.
    A recipe's `batch_size` says how many streams the text is cut into.
    """

    kind: Literal["language-model"]
    bptt: Positive = 70  # units that a step goes back, on average; its learning rate is in proportion to its own
    bptt_halved: Fraction = 0.05  # how often the average is half of it
    bptt_spread: Amount = 5.0  # standard deviation
    activation: Amount = 2.0  # times the mean square of the last layer's outputs, after dropout
    temporal_activation: Amount = 1.0  # times that of their changes from unit to unit, before dropout
    dev_streams: Size = 10  # dev is cut into


class CtcAttentionSpec(Strict):
    """CTC of the encoder and a decoder that is taught by the labels, learnt together (Kim et al. 2017).

    Of an utterance, the loss is ctc_weight · CTC's + (1 - ctc_weight) · the decoder's: the cross entropy of its labels
    and their end, `smoothing_weight` of it against a distribution of all labels: that of the training text (`unigram`,
    as in espnet/espnet egs/wsj/asr1), or the same for each (`uniform`).
    """

    kind: Literal["ctc-attention"]
    ctc_weight: Annotated[Float, Field(gt=0, lt=1)] = 0.2
    smoothing_weight: Fraction = 0.0
    smoothing: Literal["unigram", "uniform"] = "unigram"
    # Dev: wrong labels of the decoder that is told all before, as ESPnet selects; CTC's best path; the loss.
    selects: Literal["token_error", "cer", "loss"] = "token_error"


class RnntSpec(Strict):
    """A transducer (Graves 2012): all alignments of the labels with the frames, each label given those before it."""

    kind: Literal["rnnt"]
    selects: Literal["loss", "cer", "wer"] = "loss"  # of dev; rates are those of the greedy search


TaskSpec = Annotated[CtcSpec | CtcAttentionSpec | RnntSpec | FramesSpec | LanguageTaskSpec, Field(discriminator="kind")]

CTC = CtcSpec(kind="ctc")
