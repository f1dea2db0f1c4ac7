"""Model specifications: what a config says of an architecture, known without importing torch.

A new model is one class here (names of its layers, its output frames) and one module in `thaw.models`.
Sizes are counts; a *frame* is one output step of the model, the unit CTC aligns labels to.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """Base of everything a config file can say: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DeepSpeechSpec(Strict):
    """Mozilla DeepSpeech 0.7: three clipped-ReLU layers, one LSTM, one clipped-ReLU layer, softmax layer.

    Source: mozilla/DeepSpeech v0.7.4, training/deepspeech_training/train.py.
    """

    kind: Literal["deepspeech"]
    hidden: Annotated[int, Field(gt=0)] = 2048
    context: Annotated[int, Field(ge=0)] = 9  # frames of context on each side
    relu_clip: Annotated[float, Field(gt=0)] = 20.0

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers, input side first, output layer last."""
        return ("layer_1", "layer_2", "layer_3", "lstm", "layer_5", "layer_6")

    @property
    def frontend(self) -> str:
        """Name of the front end this model reads (`thaw.frontends`)."""
        return "deepspeech"

    def frames(self, samples: int) -> int:
        """Output frames for `samples` at 16 kHz: windows of 512 every 320, no padding."""
        return 0 if samples < 512 else 1 + (samples - 512) // 320


ModelSpec = DeepSpeechSpec  # becomes a union, discriminated by `kind`, with the second model
