"""What a config says of a DNN: frames with their neighbours through logistic layers to the states of a language.

Source: Heigold et al. (ICASSP 2013), "Multilingual acoustic models using distributed deep neural networks", sections 2
and 4: 11 frames of 40 log filterbank energies, four hidden layers of 2560 logistic units. Where one network learns
several languages, the lower three hidden layers are shared, the fourth and the output layer are each language's own.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from thaw.config.numbers import Count, Size
from thaw.config.strict import Strict


class DnnSpec(Strict):
    """hidden_1 … hidden_N, all logistic, then `output`: a class for every tied state."""

    frame_fields: ClassVar[tuple[str, ...]] = ("kind",)

    kind: Literal["dnn"]
    hidden: Size = 2560
    layers: Annotated[Size, Field(le=100)] = 4  # hidden ones
    context: Annotated[Count, Field(le=100)] = 5  # frames on each side
    own: Size = 2  # layers that a language has for itself where several are learnt, the output layer among them

    @model_validator(mode="after")
    def _shares_something(self) -> DnnSpec:
        if self.own > self.layers:
            raise ValueError(f"own: of {self.layers} hidden layers and the output, languages share at least one")
        return self

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers, input side first, output layer last."""
        return (*(f"hidden_{number}" for number in range(1, self.layers + 1)), "output")

    @property
    def frontend(self) -> str:
        """Name of the front end this model reads (`thaw.frontends`)."""
        return "fbank"

    def frames(self, samples: int) -> int:
        """Output frames for `samples` at 16 kHz: windows of 25 ms every 10 ms, none beyond the audio."""
        return 0 if samples < 400 else 1 + (samples - 400) // 160
