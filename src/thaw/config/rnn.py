"""Recurrent models of the top-down study: stacks of bidirectional LSTMs, with or without convolutions before them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from thaw.config.numbers import Int, Positive, Size
from thaw.config.strict import Strict

Filters = Annotated[Int, Field(ge=8, le=100)]  # of a log-mel front end
Stride = Annotated[Int, Field(ge=1, le=100)]


class BlstmSpec(Strict):
    """Bidirectional LSTMs, each with a linear projection, tanh between them, and a linear output layer.

    Layers: blstm_1 … blstm_N, output. A layer is an LSTM in both directions, then every k-th frame (`subsample`), then
    the projection. Source: espnet/espnet espnet/nets/pytorch_backend/rnn/encoders.py (RNNP).
    """

    frame_fields: ClassVar[tuple[str, ...]] = ("kind", "stack", "subsample")

    kind: Literal["blstm"]
    mel: Filters = 80  # log-mel coefficients per frame of 10 ms
    stack: Stride = 1  # so many frames become one before the first layer: what a time step costs is paid less often
    layers: Annotated[Positive, Field(le=100)] = 4
    cells: Size = 320  # in each direction
    projection: Size = 320
    subsample: tuple[Stride, ...] = ()  # for each layer, of how many of its output frames one is kept; empty: all are

    @model_validator(mode="after")
    def _fits_together(self) -> BlstmSpec:
        if self.subsample and len(self.subsample) != self.layers:
            raise ValueError(f"subsample: {len(self.subsample)} numbers for {self.layers} layers; give one for each")
        return self

    @property
    def encoder(self) -> tuple[str, ...]:
        """Names of the layers below the output, input side first."""
        return tuple(f"blstm_{number}" for number in range(1, self.layers + 1))

    @property
    def strides(self) -> tuple[int, ...]:
        """`subsample`, spelt out."""
        return self.subsample or (1,) * self.layers

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers, input side first, output layer last."""
        return (*self.encoder, "output")

    @property
    def frontend(self) -> str:
        """Name of the front end this model reads (`thaw.frontends`)."""
        return f"log-mel-{self.mel}"

    def frames(self, samples: int) -> int:
        """Output frames for `samples` at 16 kHz: windows of 400 every 160, no padding; then one in so many."""
        frames = 0 if samples < 400 else 1 + (samples - 400) // 160
        for stride in (self.stack, *self.strides):
            frames = -(-frames // stride)
        return frames
