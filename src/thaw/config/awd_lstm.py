"""AWD-LSTM: what a config says of it. Known without importing torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from thaw.config.numbers import Fraction, Int, Size
from thaw.config.strict import Strict


class AwdLstmSpec(Strict):
    """A stack of LSTMs between a word embedding and a softmax whose weight is that embedding.

    Source: Merity et al. (2018), "Regularizing and Optimizing LSTM Language Models"; salesforce/awd-lstm-lm main.py,
    with the README's `--dropouth 0.2` for WikiText-2. The last LSTM is as wide as the embedding, the others `hidden`.
    Each rate of dropout is of a place of its own, so a recipe's `dropout` has no meaning here.
    """

    frame_fields: ClassVar[tuple[str, ...]] = ("kind",)
    tied: ClassVar[tuple[tuple[str, ...], ...]] = (("embedding", "decoder"),)  # layers that share weights

    kind: Literal["awd-lstm"]
    embedding: Size = 400
    hidden: Size = 1150
    lstms: Annotated[Int, Field(ge=1, le=99)] = 3
    word_dropout: Fraction = 0.1  # whole words of the embedding, not of the decoder
    input_dropout: Fraction = 0.65  # of embedded words; this one and the next two are the same for all times of a step
    hidden_dropout: Fraction = 0.2  # between two LSTMs
    output_dropout: Fraction = 0.4  # behind the last one
    weight_dropout: Fraction = 0.5  # of the weights from hidden state to hidden state

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers, input side first, output layer last."""
        return ("embedding", *(f"lstm_{number}" for number in range(1, self.lstms + 1)), "decoder")

    @property
    def frontend(self) -> str:
        """It reads units, no features."""
        return "text"

    def frames(self, samples: int) -> int:
        """Text is aligned with nothing: no utterance is too short."""
        return samples
