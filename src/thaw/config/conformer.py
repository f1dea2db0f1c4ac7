"""Conformer (Gulati et al. 2020): what a config says of it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from thaw.config.numbers import Count, Int
from thaw.config.strict import Strict


class Sizes(NamedTuple):
    """A Conformer's size: blocks, their width d, attention heads, channels of the two convolutions before them.

    `units` are those of a transducer's prediction network, one LSTM, and of its joint network.
    """

    blocks: int
    width: int
    heads: int
    channels: int
    units: int


# Table 1 of Gulati et al. (2020), whose subsampling has d channels. The mini ones are ours, small enough for a CPU:
# with d channels, the two convolutions would cost as much as eight blocks of 64.
SIZES = {
    "S": Sizes(16, 144, 4, 144, 320),
    "M": Sizes(16, 256, 4, 256, 640),
    "L": Sizes(17, 512, 8, 512, 640),
    "mini-S": Sizes(4, 32, 2, 8, 32),
    "mini-M": Sizes(5, 40, 2, 8, 40),
    "mini-L": Sizes(6, 48, 2, 8, 48),
}


class ConformerSpec(Strict):
    """Conformer: two strided convolutions, then blocks of feed-forward, attention, convolution, feed-forward.

    Layers: subsampling, block_1 … block_N, output. The streaming variant of Zhou et al. (2022) is
    {first: convolution, causal: true, stack: 4}, with a `kernel` of 15 and a `left_context`.
    """

    frame_fields: ClassVar[tuple[str, ...]] = ("kind", "stack", "head")

    kind: Literal["conformer"]
    variant: Literal["S", "M", "L", "mini-S", "mini-M", "mini-L"] = "L"
    kernel: Annotated[Int, Field(ge=3, le=255)] = 31  # of the convolution over time; odd
    norm: Literal["batch", "group"] = "batch"  # in the convolution module
    norm_groups: Annotated[Int, Field(ge=1)] = 16  # group norm only; no paper names a number that divides 144
    first: Literal["attention", "convolution"] = "attention"  # of the two modules between the feed-forward ones
    causal: bool = False  # no frame depends on later ones
    left_context: Count = 0  # causal only: how many frames back attention sees; 0: all
    head: Literal["ctc", "rnnt"] = "ctc"  # rnnt: a transducer, with a network that predicts the next label
    stack: Count = 0  # the block before which every two frames become one; 0: none

    @model_validator(mode="after")
    def _fits_together(self) -> ConformerSpec:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel: {self.kernel} has no middle; take {self.kernel - 1} or {self.kernel + 1}")
        if self.norm == "batch" and self.norm_groups != 16:
            raise ValueError("norm_groups: batch norm has none")
        if self.norm == "group" and self.sizes.width % self.norm_groups:
            raise ValueError(f"norm_groups: {self.norm_groups} do not divide {self.sizes.width} channels")
        if self.left_context and not self.causal:
            raise ValueError("left_context: only a causal model has one")
        if self.stack > self.sizes.blocks:
            raise ValueError(f"stack: {self.variant} has {self.sizes.blocks} blocks")
        return self

    @property
    def sizes(self) -> Sizes:
        """Blocks, width, heads, channels."""
        return SIZES[self.variant]

    @property
    def block_names(self) -> tuple[str, ...]:
        """The blocks, input side first."""
        return tuple(f"block_{number}" for number in range(1, self.sizes.blocks + 1))

    @property
    def module_names(self) -> tuple[str, ...]:
        """The parts of a block, in the order of the attention-first form."""
        return ("ff1", "attention", "conv", "ff2", "norm")

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers, input side first, output layer last."""
        return ("subsampling", *self.block_names, "output")

    @property
    def hidden_layers(self) -> tuple[str, ...]:
        """The layers with hidden units that a network can do without: those of their feed-forward modules."""
        return self.block_names

    @property
    def frontend(self) -> str:
        """Name of the front end this model reads (`thaw.frontends`)."""
        return "nemo-80"

    def frames(self, samples: int) -> int:
        """Output frames for `samples` at 16 kHz: one feature frame per 160 samples, then a quarter of them, or less."""
        halvings = 3 if self.stack else 2
        return -(-(samples // 160) // 2**halvings) if samples > 256 else 0  # the front end makes nothing of less
