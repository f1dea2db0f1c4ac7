"""Make quartznet.npz with NeMo's own modules: pip install "nemo_toolkit[asr]==1.23.0", then, beside this repository's
environment, python -m tests.models.make_golden_quartznet.

NeMo is not needed to run the tests; where it is installed, they compare with it whole what the file keeps in part.
Weights and inputs come from numpy's generator, by name, so that nothing of thaw's own is in them but names and sizes.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from thaw.config.models import QuartzNetSpec
from thaw.models import build
from thaw.models.quartznet import nemo_keys

DATA = Path(__file__).parent / "quartznet.npz"
SPEC = QuartzNetSpec(kind="quartznet", variant="mini-5x2")
CLASSES = 6
FRAMES = (85, 61)  # of features; padded to 96, which a multiple of 8 would not be
LABELS = ((1, 2, 2, 0, 3), (4, 1))
NOVOGRAD = {"lr": 0.01, "betas": (0.95, 0.25), "eps": 1e-8, "weight_decay": 0.001}
STEPS = 2
KEPT = 8  # values of a tensor


def uniform(name: str, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """Numbers that depend on the name and shape alone."""
    return torch.from_numpy(np.random.default_rng(zlib.crc32(name.encode())).uniform(low, high, shape)).float()


def weights(spec: QuartzNetSpec, classes: int) -> dict[str, Tensor]:
    """A value for every tensor of the model, by thaw's names: kernels in ±Glorot's bound, norms that do something."""
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in build(spec, classes).state_dict().items()}
    values = {}
    for name, shape in shapes.items():
        low, high = (0.5, 1.5) if name.endswith(("norm.weight", "running_var")) else (-0.2, 0.2)
        if len(shape) == 3:
            high = float(np.sqrt(6 / (shape[2] * (shape[0] + shape[1]))))
            low = -high
        values[name] = uniform(name, shape, low, high)
    return values


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features (B, T, 64) with zeros beyond the ends, lengths, labels in a row, how many."""
    x = uniform("features", (len(FRAMES), max(FRAMES), 64), -1.7, 1.7)
    for row, length in enumerate(FRAMES):
        x[row, length:] = 0
    labels = torch.tensor([label for row in LABELS for label in row], dtype=torch.int32)
    return x, torch.tensor(FRAMES), labels, torch.tensor([len(row) for row in LABELS])


def nemo_modules(spec: QuartzNetSpec, classes: int) -> torch.nn.ModuleDict:
    """NeMo's encoder and decoder of the same sizes; its EncDecCTCModel has them by the same two names."""
    from nemo.collections.asr.modules.conv_asr import ConvASRDecoder, ConvASREncoder

    jasper = [
        {
            "filters": block.channels,
            "repeat": block.repeat,
            "kernel": [block.kernel],
            "stride": [block.stride],
            "dilation": [block.dilation],
            "dropout": 0.0,
            "residual": block.residual,
            "separable": block.separable,
        }
        for block in spec.blocks.values()
    ]
    encoder = ConvASREncoder(jasper=jasper, activation="relu", feat_in=64, conv_mask=True)
    decoder = ConvASRDecoder(feat_in=jasper[-1]["filters"], num_classes=classes - 1)
    return torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder})


def nemo_results(spec: QuartzNetSpec, classes: int, steps: int = STEPS) -> dict[str, Tensor]:
    """What NeMo's modules, loss and optimiser make of `weights` and `batch`, by thaw's names (see `ours`)."""
    from nemo.collections.asr.losses.ctc import CTCLoss
    from nemo.core.optim.novograd import Novograd

    keys = dict(nemo_keys(spec))
    model = nemo_modules(spec, classes)
    left = model.load_state_dict({keys[name]: tensor for name, tensor in weights(spec, classes).items()}, strict=False)
    assert not left.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in left.missing_keys)
    x, lengths, labels, counts = batch()
    x = F.pad(x.transpose(1, 2), (0, -x.shape[1] % 16))  # as its front end does
    targets = torch.nn.utils.rnn.pad_sequence(torch.split(labels, counts.tolist()), batch_first=True)
    criterion = CTCLoss(num_classes=classes - 1, zero_infinity=True)
    optimizer = Novograd(model.parameters(), **NOVOGRAD)

    def forward() -> tuple[Tensor, Tensor]:
        encoded, valid = model["encoder"](audio_signal=x, length=lengths)
        return model["decoder"](encoder_output=encoded), valid

    model.eval()
    with torch.no_grad():
        log_probs, valid = forward()
    results = {"eval": log_probs, "valid": valid}
    model.train()
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        log_probs, valid = forward()
        loss = criterion(log_probs=log_probs, targets=targets, input_lengths=valid, target_lengths=counts)
        loss.backward()
        results |= {f"train {step}": log_probs.detach(), f"loss {step}": loss.detach()}
        optimizer.step()
        state = model.state_dict()
        results |= {f"{name} {step}": state[theirs].clone() for name, theirs in keys.items()}
    return results


def changes(results: dict[str, Tensor], start: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same, with how much each weight has changed since the start instead of the weight."""
    return {key: value - start[name] if (name := key.split()[0]) in start else value for key, value in results.items()}


def thinned(results: dict[str, Tensor], start: dict[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    """Outputs whole; of each weight's change its norm and a few values."""
    kept = {}
    for key, value in changes(results, start).items():
        flat = value.flatten()
        if key.startswith("layers."):
            places = torch.linspace(0, len(flat) - 1, min(KEPT, len(flat))).long()
            flat = torch.cat([torch.linalg.vector_norm(flat).reshape(1), flat[places]])
        kept[key] = flat.numpy()
    return kept


if __name__ == "__main__":
    import nemo

    torch.set_num_threads(1)
    found = thinned(nemo_results(SPEC, CLASSES), weights(SPEC, CLASSES))
    np.savez_compressed(DATA, **found)
    print(f"NeMo {nemo.__version__}, torch {torch.__version__}: {DATA.stat().st_size} bytes", file=sys.stderr)
