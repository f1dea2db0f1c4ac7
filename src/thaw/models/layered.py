"""The one shape all models share: an ordered stack of named layers, input side first, output layer last.

Shapes: B batch, T frames, F features, V classes (alphabet + blank; blank is the last class).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from thaw.randomness import seed_of

Drop = Callable[[Tensor], Tensor]


class Layer(nn.Module):
    """One named layer. Subclasses define `forward` and `reset_parameters`."""

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """Map (B, T, F) and valid lengths (B,) to the next layer's; `drop` is applied at each dropout place."""
        raise NotImplementedError

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw fresh initial weights (and buffers) from `generator`, on the CPU, in a fixed order."""
        raise NotImplementedError


class Noise:
    """Dropout masks that depend on (seed, epoch, utterance, layer) alone, so not on how utterances are batched.

    `rates` maps layer names to dropout rates; layers left out, or at 0, are not disturbed.
    """

    def __init__(self, rates: Mapping[str, float], seed: int, epoch: int, ids: Sequence[str]) -> None:
        self.rates = rates
        self.place = (seed, "dropout", epoch)
        self.ids = ids

    def drop_for(self, layer: str) -> Drop:
        """The dropout function of one layer for this batch: (B, T, H) -> (B, T, H), inverted dropout."""
        rate = self.rates.get(layer, 0.0)
        if rate == 0.0:
            return keep
        calls = 0

        def drop(x: Tensor) -> Tensor:
            nonlocal calls
            mask = torch.empty(x.shape, dtype=x.dtype, device=x.device)
            for row, utterance in enumerate(self.ids):
                generator = torch.Generator(device=x.device)
                generator.manual_seed(seed_of(*self.place, utterance, layer, calls))
                # Time leads, so that the padding behind an utterance does not change its mask.
                mask[row].bernoulli_(1.0 - rate, generator=generator)
            calls += 1
            return x * mask.div_(1.0 - rate)

        return drop


def keep(x: Tensor) -> Tensor:
    """No dropout."""
    return x


class LayeredModel(nn.Module):
    """A stack of named layers; every surgery works on `layers` and needs to know nothing else of a model."""

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)

    def layer(self, name: str) -> Layer:
        """The layer called `name`."""
        module = self.layers[name]
        assert isinstance(module, Layer)
        return module

    def initialise(self, seed: int) -> None:
        """Draw every layer's initial weights; a layer's draw depends on (seed, its name) alone."""
        for name in self.layers:
            self.reset_layer(name, seed)

    def reset_layer(self, name: str, seed: int) -> None:
        """Draw fresh initial weights for one layer."""
        generator = torch.Generator().manual_seed(seed_of(seed, "init", name))
        self.layer(name).reset_parameters(generator)

    def forward(self, x: Tensor, lengths: Tensor, noise: Noise | None = None) -> tuple[Tensor, Tensor]:
        """Features (B, T, F), lengths (B,) -> logits (B, T', V), lengths (B,). No noise: nothing is random."""
        for name in self.layers:
            drop = keep if noise is None else noise.drop_for(name)
            x, lengths = self.layer(name)(x, lengths, drop)
        return x, lengths
