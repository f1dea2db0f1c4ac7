"""Model specifications: what a config says of an architecture, known without importing torch.

A new model is one class here (names of its layers, its output frames) and one module in `thaw.models`.
Sizes are counts; a *frame* is one output step of the model, the unit CTC aligns labels to.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from thaw.config.awd_lstm import AwdLstmSpec
from thaw.config.conformer import ConformerSpec
from thaw.config.dnn import DnnSpec
from thaw.config.numbers import Count, Size, Some
from thaw.config.rnn import BlstmSpec
from thaw.config.strict import Strict
from thaw.config.tasks import TaskSpec
from thaw.config.transformer import TransformerSpec


class DeepSpeechSpec(Strict):
    """Mozilla DeepSpeech 0.7: three clipped-ReLU layers, one LSTM, one clipped-ReLU layer, softmax layer.

    Source: mozilla/DeepSpeech v0.7.4, training/deepspeech_training/train.py.
    """

    frame_fields: ClassVar[tuple[str, ...]] = ("kind",)  # all that `frames` and `room` depend on

    kind: Literal["deepspeech"]
    hidden: Size = 2048
    context: Annotated[Count, Field(le=1000)] = 9  # frames of context on each side
    relu_clip: Some = 20.0

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


class Block(NamedTuple):
    """One block of a QuartzNet: `repeat` sub-blocks of convolution, batch norm, ReLU and dropout."""

    channels: int
    kernel: int
    repeat: int = 1
    stride: int = 1
    dilation: int = 1
    residual: bool = False
    separable: bool = True


# Sources: NVIDIA/NeMo v0.10.1 examples/asr/configs/quartznet15x5.yaml and quartznet5x3.yaml, and
# examples/asr/experimental/configs for 10x5 and 5x5. The mini ones are ours: the same plan, small enough for a CPU.
_GROUPS = ((256, 33), (256, 39), (512, 51), (512, 63), (512, 75))
_BLOCKS: dict[str, tuple[tuple[int, int, int], ...]] = {  # channels, kernel, repeat
    "15x5": tuple((channels, kernel, 5) for channels, kernel in _GROUPS for _ in range(3)),
    "10x5": tuple((channels, kernel, 5) for channels, kernel in _GROUPS for _ in range(2)),
    "5x5": tuple((channels, kernel, 5) for channels, kernel in _GROUPS),
    "5x3": tuple((512, kernel, 3) for kernel in (63, 63, 75, 75, 75)),
    "mini-5x2": tuple(
        (channels, kernel, 2) for channels, kernel in ((96, 11), (96, 13), (128, 17), (128, 21), (128, 25))
    ),
    "mini-3x1": tuple((channels, kernel, 1) for channels, kernel in ((96, 11), (128, 17), (128, 25))),
}
_ENDS: dict[str, tuple[Block, Block, Block]] = {  # C1, C2, C3
    "published": (Block(256, 33, stride=2), Block(512, 87, dilation=2), Block(1024, 1, separable=False)),
    "mini": (Block(96, 11, stride=2), Block(128, 29, dilation=2), Block(256, 1, separable=False)),
}


class QuartzNetSpec(Strict):
    """QuartzNet: time-channel separable convolutions in residual blocks, then a 1x1 convolution to the classes.

    Layers: conv_1, block_1 … block_B, conv_2, conv_3, decoder. Source: the files named above. `frontend_version` says
    whose log-mel features it reads: NeMo changed them between releases, and weights fit those they were trained on.
    """

    frame_fields: ClassVar[tuple[str, ...]] = ("kind", "frontend_version")

    kind: Literal["quartznet"]
    variant: Literal["15x5", "10x5", "5x5", "5x3", "mini-5x2", "mini-3x1"] = "15x5"
    frontend_version: Literal["v0.10", "v1.0", "2025-07"] = "v1.0"

    @property
    def blocks(self) -> dict[str, Block]:
        """Every layer but the decoder, by name, input side first."""
        first, dilated, last = _ENDS["mini" if self.variant.startswith("mini") else "published"]
        inner = [Block(*row, residual=True) for row in _BLOCKS[self.variant]]
        named = {f"block_{number}": block for number, block in enumerate(inner, 1)}
        return {"conv_1": first, **named, "conv_2": dilated, "conv_3": last}

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers, input side first, output layer last."""
        return (*self.blocks, "decoder")

    @property
    def frontend(self) -> str:
        """Name of the front end this model reads (`thaw.frontends`)."""
        return f"nemo-{self.frontend_version}"

    def frames(self, samples: int) -> int:
        """Output frames for `samples` at 16 kHz: one feature frame per 160 samples, then a stride of two."""
        if samples <= 256:  # the front end mirrors half a window at the ends, and has nothing to mirror below that
            return 0
        features = {"v0.10": -(-samples // 160), "v1.0": samples // 160 + 1, "2025-07": samples // 160}
        return (features[self.frontend_version] - 1) // 2 + 1


ModelSpec = Annotated[
    DeepSpeechSpec | QuartzNetSpec | BlstmSpec | TransformerSpec | DnnSpec | ConformerSpec | AwdLstmSpec,
    Field(discriminator="kind"),
]


def transduces(spec: ModelSpec) -> bool:
    """Whether a model is a transducer."""
    return isinstance(spec, ConformerSpec) and spec.head == "rnnt"


def room(spec: ModelSpec, samples: int) -> float:
    """How many labels `samples` at 16 kHz have room for, a blank between two equal ones counted: one in each frame.

    A transducer says as many as it likes in one; no model says any without a frame.
    """
    frames = spec.frames(samples)
    return math.inf if frames and transduces(spec) else frames


def hidden_layers(spec: ModelSpec) -> tuple[str, ...]:
    """The layers with hidden units that a network can do without (`thaw.models.layered.HiddenUnits`)."""
    return spec.hidden_layers if isinstance(spec, ConformerSpec) else ()


def running_statistics(spec: ModelSpec) -> bool:
    """Whether a model has norms that keep statistics of what they have seen."""
    return isinstance(spec, QuartzNetSpec) or (isinstance(spec, ConformerSpec) and spec.norm == "batch")


def heads_beside(spec: ModelSpec) -> int:
    """How many heads stand side by side for one language."""
    return spec.heads if isinstance(spec, BlstmSpec | TransformerSpec) else 1


def own_names(spec: ModelSpec, lang: str = "") -> tuple[str, ...]:
    """The names of the layers that a language has for itself, input side first, its heads last.

    "" stands for all languages, where they share them: of all layers, the heads alone are theirs.
    """
    own = spec.own if isinstance(spec, DnnSpec) and lang else heads_beside(spec)
    return tuple(f"{name}_{lang}" if lang else name for name in spec.layer_names[-own:])


def head_name(spec: ModelSpec, lang: str = "") -> str:
    """The name of the layer whose outputs are the classes of a language; "" is the head that all languages share."""
    return own_names(spec, lang)[-1]


def head_names(spec: ModelSpec, langs: Iterable[str] = ()) -> tuple[str, ...]:
    """The names of the heads: one for each language, or one for all where none is named."""
    return places(spec, langs)[-1]


def places(spec: ModelSpec, langs: Iterable[str] = ()) -> tuple[tuple[str, ...], ...]:
    """The layers by their place in the stack, input side first.

    At one place stand the layers that languages have of their own there, and the heads.
    """
    own = [own_names(spec, lang) for lang in sorted(langs) or [""]]
    heads = heads_beside(spec)
    shared = spec.layer_names[: len(spec.layer_names) - len(own[0])]
    below = zip(*(names[:-heads] for names in own), strict=True)
    return (*((name,) for name in shared), *below, tuple(name for names in own for name in names[-heads:]))


def layer_names(spec: ModelSpec, langs: Iterable[str] = ()) -> tuple[str, ...]:
    """The names of all layers, input side first, heads last."""
    return tuple(name for place in places(spec, langs) for name in place)


def misfit(spec: ModelSpec, task: TaskSpec, langs: Collection[str] = ()) -> str:
    """Why a model cannot learn a task, in words; empty where it can. `langs`: those that have heads of their own."""
    reads = isinstance(spec, AwdLstmSpec)
    if reads != (task.kind == "language-model"):
        return f"a {spec.kind} learns {'language-model' if reads else 'from speech'}, not {task.kind}"
    if langs and reads:
        return "a language model has one language: leave corpora out"
    if transduces(spec) != (task.kind == "rnnt"):
        wanted = "rnnt and no other" if transduces(spec) else "anything but rnnt"
        return f"a {spec.kind} {'with' if transduces(spec) else 'without'} head: rnnt learns {wanted}, not {task.kind}"
    if task.kind == "frames" and task.drawn and not isinstance(spec, DnnSpec):
        return f"a {spec.kind} hears frames in their order: leave drawn out, or take a dnn"
    decodes = heads_beside(spec) > 1
    if decodes != (task.kind == "ctc-attention"):
        wanted = "ctc-attention and no other" if decodes else "anything but ctc-attention"
        return f"a {spec.kind} {'with' if decodes else 'without'} a decoder learns {wanted}, not {task.kind}"
    return "a model with a decoder learns one language: leave corpora out" if langs and decodes else ""
