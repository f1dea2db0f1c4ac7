"""Recurrent models of the top-down study: stacks of bidirectional LSTMs, with or without convolutions before them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from thaw.config.numbers import Int, Positive, Size
from thaw.config.strict import Strict

Filters = Annotated[Int, Field(ge=8, le=100)]  # of a log-mel front end
# log-mel: normalised over each utterance; fbank: Kaldi's, normalised over the training set. The published models have
# three coefficients of Kaldi's pitch beside 80 of fbank, which are left out here.
FrontEnd = Literal["log-mel", "fbank"]
Stride = Annotated[Int, Field(ge=1, le=100)]


class AttentionDecoderSpec(Strict):
    """One LSTM that attends to the encoder's frames by where it attended before.

    Source: espnet/espnet egs/wsj/asr1/conf/tuning/train_rnn.yaml, whose sizes are the defaults.
    """

    width: Size = 300  # of the LSTM and the embedding of labels
    attention: Size = 320
    channels: Size = 10  # of the convolution over the attention before
    reach: Annotated[Int, Field(ge=1, le=10_000)] = 100  # frames that it sees to each side


class BlstmSpec(Strict):
    """Bidirectional LSTMs, each with a linear projection, tanh between them; then an output layer, or a decoder.

    Layers: blstm_1 … blstm_N, output. A layer is an LSTM in both directions, then every k-th frame (`subsample`), then
    the projection. Where `vgg` is set, a block of convolutions comes first: vgg. Where `decoder` is, the heads are two,
    behind layers of their own: attention, decoder, ctc_output, attention_output. Source: espnet/espnet
    espnet/nets/pytorch_backend/rnn/encoders.py (VGG2L, RNNP).
    """

    frame_fields: ClassVar[tuple[str, ...]] = ("kind", "stack", "vgg", "subsample")

    kind: Literal["blstm"]
    mel: Filters = 80  # log-mel coefficients per frame of 10 ms
    features: FrontEnd = "log-mel"
    stack: Stride = 1  # so many frames become one before the first layer: what a time step costs is paid less often
    vgg: tuple[Size, Size] | None = None  # channels of two pairs of 3x3 convolutions, each of which halves the frames
    layers: Annotated[Positive, Field(le=100)] = 4
    cells: Size = 320  # in each direction
    projection: Size = 320
    subsample: tuple[Stride, ...] = ()  # for each layer, of how many of its output frames one is kept; empty: all are

    decoder: AttentionDecoderSpec | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> BlstmSpec:
        if self.vgg and (self.stack > 1 or set(self.subsample) > {1}):
            raise ValueError("vgg: it makes one frame of four already; leave out stack and subsample")
        if self.subsample and len(self.subsample) != self.layers:
            raise ValueError(f"subsample: {len(self.subsample)} numbers for {self.layers} layers; give one for each")
        return self

    @property
    def encoder(self) -> tuple[str, ...]:
        """Names of the layers of the encoder, input side first."""
        return (*(("vgg",) if self.vgg else ()), *self.recurrent)

    @property
    def recurrent(self) -> tuple[str, ...]:
        """Names of its recurrent ones."""
        return tuple(f"blstm_{number}" for number in range(1, self.layers + 1))

    @property
    def heads(self) -> int:
        """How many layers give classes."""
        return 2 if self.decoder else 1

    @property
    def strides(self) -> tuple[int, ...]:
        """`subsample`, spelt out."""
        return self.subsample or (1,) * self.layers

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers, input side first, heads last."""
        own = ("attention", "decoder", "ctc_output", "attention_output") if self.decoder else ("output",)
        return (*self.encoder, *own)

    @property
    def frontend(self) -> str:
        """Name of the front end this model reads (`thaw.frontends`)."""
        return f"{self.features}-{self.mel}"

    def frames(self, samples: int) -> int:
        """Output frames for `samples` at 16 kHz: windows of 400 every 160, no padding; then one in so many."""
        frames = 0 if samples < 400 else 1 + (samples - 400) // 160
        for stride in (*((2, 2) if self.vgg else (self.stack,)), *self.strides):
            frames = -(-frames // stride)
        return frames
