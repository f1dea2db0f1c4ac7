"""The one shape all models share: an ordered stack of named layers, input side first, heads last.

Shapes: B batch, T frames, F features, V classes (alphabet + blank; blank is the last class).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from thaw.config.models import ModelSpec, head_name
from thaw.errors import UserError
from thaw.placing import on_device
from thaw.randomness import Seeds, seed_of
from thaw.units import EVERY, ByLanguage, of_language

Drop = Callable[[Tensor], Tensor]


class HiddenUnits(NamedTuple):
    """Units between two weighted sums of a layer: a network can do without some, and each takes its weights along.

    Rows of `w_in` and `b_in`, columns of `w_out`, which are parameters of the layer by their names in it.
    """

    w_in: str
    b_in: str
    w_out: str
    size: int


class Layer(nn.Module):
    """One named layer. Subclasses define `forward` and `reset_parameters`."""

    inert: tuple[str, ...] = ()  # weights that no output depends on, whose gradients are rounding
    drops: bool = True  # whether it has a dropout place: one that has none is as still as its weights
    apart: bool = True  # whether an utterance's outputs have the same bits in every batch that is padded as far

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """Map (B, T, F) and valid lengths (B,) to the next layer's; `drop` is applied at each dropout place.

        What x holds beyond an utterance's length means nothing: a layer lets none of it reach valid frames, statistics
        or gradients, and may leave anything there. Only how far it pads may count (`padded`).
        """
        raise NotImplementedError

    def padded(self, frames: int) -> int:
        """T' of what `forward` makes of a batch of T = `frames`, padding included."""
        return frames

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw fresh initial weights (and buffers) from `generator`, on the CPU, in a fixed order."""
        raise NotImplementedError

    def hidden_units(self) -> tuple[HiddenUnits, ...]:
        """Its groups of hidden units; `forward` must work with fewer of them (`thaw.training.submodels`)."""
        return ()


@dataclass(frozen=True)
class Labels:
    """What was said, for a model that is taught by it: labels (B, U) int64, 0 beyond an utterance's own `lengths` (B,).

    They are numbered as the head's units, on the device of the features.
    """

    ids: Tensor
    lengths: Tensor


class Noise:
    """Dropout masks that depend on (seed, epoch, utterance, layer) alone, not on how utterances are batched or padded.

    `rates` maps layer names to dropout rates; layers left out, or at 0, are not disturbed. `ids` name the utterances
    of the batch, row by row.
    """

    def __init__(self, rates: Mapping[str, float], seed: int, epoch: int, ids: Sequence[str]) -> None:
        self.rates = rates
        self.seeds = [Seeds(seed, "dropout", epoch, i) for i in ids] if any(rates.values()) else []

    def part(self, rows: Sequence[int]) -> Noise:
        """That of some rows of the batch."""
        noise = copy(self)
        noise.seeds = [self.seeds[row] for row in rows] if self.seeds else []
        return noise

    def keys(self, layer: str, call: int) -> Tensor:
        """What names the masks of a dropout place of a layer, its `call`-th: two words for each utterance, (B, 2)."""
        ending = Seeds.ending(layer, call)
        return _words([seeds(ending) for seeds in self.seeds])

    def drop_for(self, layer: str) -> Drop:
        """The dropout function of one layer for this batch: (B, T, H) -> (B, T, H), inverted dropout."""
        rate = self.rates.get(layer, 0.0)
        if rate == 0.0:
            return keep
        level = min(max(round((1.0 - rate) * 65536), 1), 65535)  # of 65536 units, so many are kept
        calls = 0

        def drop(x: Tensor) -> Tensor:
            nonlocal calls
            keys = on_device(self.keys(layer, calls), x.device)
            calls += 1
            kept = _noise(keys, x.shape[1], x.shape[2]) < level - 32768
            return x * kept.to(x.dtype).mul_(65536 / level)

        return drop


def _words(digests: Sequence[bytes]) -> Tensor:
    """The seeds that `Seeds` gives as two signed words each, (B, 2) int32: s >> 32 less 2^30, the rest less 2^31."""
    seeds = np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64) >> np.uint64(1)
    words = np.stack([seeds >> np.uint64(32), seeds & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64)
    return torch.from_numpy((words - [2**30, 2**31]).astype(np.int32))


def _noise(keys: Tensor, frames: int, units: int) -> Tensor:
    """Uniform int16 (B, T, H) from two int32 words per row, keys (B, 2); a value depends on its row's key, t, h, H.

    A hash of a counter, not a generator: a generator has to be asked row by row (ten times the time on a CPU), and on a
    GPU its numbers depend on how many are drawn at once. The mixing steps are those of `lowbias32`
    (skeeto/hash-prospector); each 32-bit hash serves two units.
    """
    pairs = (units + 1) // 2
    counter = torch.arange(frames * pairs, dtype=torch.int32, device=keys.device)
    h = (counter * -1640531527) ^ keys[:, :1]  # (B, T·pairs); the factor is 2^32 / golden ratio
    h ^= (h >> 16) & 0xFFFF  # shifts of int32 copy the sign bit: masked off
    h *= 0x7FEB352D
    h += keys[:, 1:]  # a second word, so that two rows' sequences are not shifts of each other
    h ^= (h >> 15) & 0x1FFFF
    h *= -2073254261  # 0x846CA68B
    h ^= (h >> 16) & 0xFFFF
    return h.view(torch.int16).view(len(keys), frames, 2 * pairs)[:, :, :units]


def keep(x: Tensor) -> Tensor:
    """No dropout."""
    return x


def layer_of(tensor: str) -> str:
    """The layer that a weight or buffer belongs to, by its name in `state_dict`: layers.lstm.bias -> lstm."""
    return tensor.split(".")[1]


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises: by batch, instance, layer, group or root mean square."""
    return isinstance(module, _NormBase | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm)


class LayeredModel(nn.Module):
    """A stack of named layers; every surgery works on `layers` and needs to know nothing else of a model.

    What is said of a chain of layers holds of all but those of one branch: a model whose heads stand side by side, or
    read what was said before (a decoder), says in `outputs` how they hang together, and in `path` how far it can go
    without labels.
    """

    taught: ClassVar[bool] = False  # whether `outputs` wants labels in training

    def __init__(
        self, layers: Mapping[str, Layer], branches: ByLanguage[Sequence[str]] | None = None, outputs: int = 1
    ) -> None:
        """`branches`: the layers that a language has for itself, behind those that all share; the last `outputs` of
        them are its heads.
        """
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.branches = branches or {EVERY: tuple(layers)[-1:]}
        self.heads_of = {lang: tuple(branch[-outputs:]) for lang, branch in self.branches.items()}
        own = {name for branch in self.branches.values() for name in branch}
        self.trunk = tuple(name for name in layers if name not in own)  # what all languages share
        self.tied: tuple[tuple[str, ...], ...] = ()  # layers with common weights: loaded, reset, frozen together
        self.still: frozenset[str] = frozenset()  # layers whose norms keep their statistics in training too

    @property
    def heads(self) -> tuple[str, ...]:
        """The layers whose outputs are classes."""
        return tuple(head for heads in self.heads_of.values() for head in heads)

    @property
    def places(self) -> tuple[tuple[str, ...], ...]:
        """The layers by their place in the stack, input side first.

        At one place stand the layers that languages have of their own there, and the heads.
        """
        below = [branch[: -len(self.heads_of[lang])] for lang, branch in self.branches.items()]
        return (*((name,) for name in self.trunk), *zip(*below, strict=True), self.heads)

    def path(self, lang: str = EVERY) -> tuple[str, ...]:
        """The layers that an utterance of a language goes through, one after the other, to logits."""
        return (*self.trunk, *of_language(self.branches, lang))

    def layer(self, name: str) -> Layer:
        """The layer called `name`."""
        module = self.layers[name]
        assert isinstance(module, Layer)
        return module

    def initialise(self, seed: int) -> None:
        """Draw every layer's initial weights; a layer's draw depends on (seed, its name) alone."""
        for name in self.layers:
            self.reset_layer(name, seed)

    def reset_layer(self, name: str, seed: int, draw: int = 0) -> None:
        """Draw fresh initial weights for one layer; each `draw` (0, 1, …) of a seed gives others."""
        place = (seed, "init", name, draw) if draw else (seed, "init", name)
        generator = torch.Generator().manual_seed(seed_of(*place))
        self.layer(name).reset_parameters(generator)

    def train(self, mode: bool = True) -> LayeredModel:
        """As `nn.Module.train`, but the normalisation inside the layers of `still` stays in evaluation mode."""
        super().train(mode)
        for name in self.still:
            for module in self.layer(name).modules():
                if is_norm(module):
                    module.eval()
        return self

    def layer_state(self, name: str) -> dict[str, Tensor]:
        """The weights and buffers of one layer, by the names they have in the whole model's `state_dict`."""
        return {f"layers.{name}.{key}": tensor for key, tensor in self.layer(name).state_dict().items()}

    @torch.no_grad()
    def load_layers(self, tensors: Mapping[str, Tensor], names: Iterable[str], origin: str) -> None:
        """Copy the named layers' weights and buffers from `tensors` (named as in `state_dict`).

        UserError says which layer does not fit, and how; `origin` says there where the tensors came from.
        """
        strange = sorted({layer_of(key) for key in tensors if key.count(".") >= 2} - set(self.layers))
        if strange:
            raise UserError(f"{origin} has layers that this model has not: {strange}; its layers: {list(self.layers)}")
        for name in names:
            own = self.layer_state(name)
            given = {key: tensor for key, tensor in tensors.items() if key.startswith(f"layers.{name}.")}
            problem = _difference(own, given)
            if problem:
                hint = " (other alphabets need a new output layer: reset it)" if name in self.heads else ""
                raise UserError(f"{origin}: layer {name} does not fit this model: {problem}{hint}")
            for key, tensor in own.items():
                tensor.copy_(given[key])

    def padded(self, frames: int, upto: int) -> int:
        """How many frames the first `upto` layers make of a batch of `frames`, padding included."""
        for name in self.trunk[:upto]:
            frames = self.layer(name).padded(frames)
        return frames

    def forward(
        self,
        x: Tensor,
        lengths: Tensor,
        noise: Noise | None = None,
        done: int = 0,
        upto: int | None = None,
        lang: str = EVERY,
    ) -> tuple[Tensor, Tensor]:
        """Features (B, T, F), lengths (B,) -> logits (B, T', V), lengths (B,). No noise: nothing is random.

        `done` layers are taken to have been computed: x is the output of the last of them. `upto` layers: the output
        of the last of those instead of logits. `lang`: whose head, where languages have their own.
        """
        return self._through((self.path(lang) if upto is None else self.trunk)[done:upto], x, lengths, noise)

    def outputs(
        self, x: Tensor, lengths: Tensor, noise: Noise | None = None, lang: str = EVERY, labels: Labels | None = None
    ) -> dict[str, Tensor]:
        """What each head of a language says, by its name, of what the trunk has made: x (B, T, H), lengths (B,).

        A model that is `taught` reads the labels; their lengths are those of its outputs, or in them.
        """
        logits, _ = self._through(of_language(self.branches, lang), x, lengths, noise)
        return {of_language(self.heads_of, lang)[0]: logits}

    def _through(self, names: Iterable[str], x: Tensor, lengths: Tensor, noise: Noise | None) -> tuple[Tensor, Tensor]:
        """A batch through these layers, one after the other."""
        for name in names:
            drop = keep if noise is None else noise.drop_for(name)
            x, lengths = self.layer(name)(x, lengths, drop)
        return x, lengths


def with_heads(spec: ModelSpec, shared: Mapping[str, Layer], heads: ByLanguage[Layer]) -> LayeredModel:
    """The model whose languages share a stack and have a head each, named as `spec` says (`thaw.config.models`)."""
    names = {lang: head_name(spec, lang) for lang in sorted(heads)}
    return LayeredModel(
        {**shared, **{name: heads[lang] for lang, name in names.items()}},
        {lang: (name,) for lang, name in names.items()},
    )


def _difference(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """What keeps the tensors of `given` from taking the places of `own`, in words; empty where nothing does."""
    if not given:
        return "it is missing there"
    if own.keys() != given.keys():
        return f"expected tensors {sorted(own)}, got {sorted(given)}"
    wrong = [key for key in own if own[key].shape != given[key].shape]
    return "; ".join(f"{key} is {tuple(own[key].shape)} here, {tuple(given[key].shape)} there" for key in wrong)
