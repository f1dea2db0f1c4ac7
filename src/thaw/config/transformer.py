"""The Transformer of the top-down study: self-attention in encoder and decoder, CTC beside it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from thaw.config.numbers import Int, Positive, Size
from thaw.config.rnn import Filters, FrontEnd
from thaw.config.strict import Strict

Depth = Annotated[Positive, Field(le=200)]


class TransformerSpec(Strict):
    """Convolutions that keep every fourth frame, blocks of self-attention, a decoder of such blocks, and two heads.

    Layers: subsampling, encoder_1 … encoder_N, embedding, decoder_1 … decoder_M, ctc_output, attention_output. Sizes as
    in espnet/espnet egs/swbd/asr1/conf/tuning/train_pytorch_transformer_ag8_specaug.yaml.
    """

    frame_fields: ClassVar[tuple[str, ...]] = ("kind",)
    heads: ClassVar[int] = 2  # layers that give classes

    kind: Literal["transformer"]
    mel: Filters = 80  # log-mel coefficients per frame of 10 ms
    features: FrontEnd = "log-mel"
    width: Size = 256
    attention_heads: Annotated[Int, Field(ge=1, le=1000)] = 4
    inner: Size = 2048  # units between the two sums of a block's second half
    encoder_layers: Depth = 12
    decoder_layers: Depth = 6

    @model_validator(mode="after")
    def _divides(self) -> TransformerSpec:
        if self.width % self.attention_heads or self.width % 2:
            raise ValueError("width: an even number that attention_heads divides, since heads and positions share it")
        return self

    @property
    def encoder(self) -> tuple[str, ...]:
        """Names of the encoder's layers, input side first."""
        return ("subsampling", *(f"encoder_{number}" for number in range(1, self.encoder_layers + 1)))

    @property
    def decoder(self) -> tuple[str, ...]:
        """Names of the decoder's layers below its head."""
        return ("embedding", *(f"decoder_{number}" for number in range(1, self.decoder_layers + 1)))

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers, input side first, heads last."""
        return (*self.encoder, *self.decoder, "ctc_output", "attention_output")

    @property
    def frontend(self) -> str:
        """Name of the front end this model reads (`thaw.frontends`)."""
        return f"{self.features}-{self.mel}"

    def frames(self, samples: int) -> int:
        """Output frames for `samples` at 16 kHz: windows of 400 every 160, then twice windows of 3 every 2."""
        frames = 0 if samples < 400 else 1 + (samples - 400) // 160
        for _ in range(2):
            frames = max(0, (frames - 1) // 2)
        return frames
