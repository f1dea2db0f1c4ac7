"""Make conformer.npz with NeMo's own modules: pip install --no-deps nemo-toolkit==3.0.0, and what its import asks for;
then, beside this repository's environment, python -m tests.models.make_golden_conformer.

NeMo is not needed to run the tests. Weights and inputs come from numpy's generator, by name, so that nothing of thaw's
own is in them but names and sizes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.models.make_golden_quartznet import uniform
from thaw.config.conformer import ConformerSpec
from thaw.models import build

DATA = Path(__file__).parent / "conformer.npz"
SPEC = ConformerSpec(kind="conformer", variant="mini-S", kernel=15)
LENGTHS = (29, 17)  # frames of a block; a batch norm in evaluation and the masks of convolution and attention see them
FEATURES = (41, 41)  # frames of features; in NeMo, the padding of a shorter one leaks into its last frame
NORMS = {"batch": "batch_norm", "group": "group_norm16"}
# thaw's names -> NeMo's, of a block and of the subsampling
BLOCK = {
    "ff1.norm": "norm_feed_forward1",
    "ff1.w1": "feed_forward1.linear1",
    "ff1.w2": "feed_forward1.linear2",
    "attention.norm": "norm_self_att",
    **{f"attention.{key}": f"self_attn.linear_{key}" for key in ("q", "k", "v", "out", "pos")},
    "attention.u": "self_attn.pos_bias_u",
    "attention.w": "self_attn.pos_bias_v",
    "conv.norm": "norm_conv",
    "conv.pw1": "conv.pointwise_conv1",
    "conv.dw": "conv.depthwise_conv",
    "conv.inner_norm": "conv.batch_norm",
    "conv.pw2": "conv.pointwise_conv2",
    "ff2.norm": "norm_feed_forward2",
    "ff2.w1": "feed_forward2.linear1",
    "ff2.w2": "feed_forward2.linear2",
    "norm": "norm_out",
}
SUBSAMPLING = {"conv1": "conv.0", "conv2": "conv.2", "out": "out"}


def weights(spec: ConformerSpec, layer: str) -> dict[str, Tensor]:
    """A value for every tensor of a layer, by thaw's names."""
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in build(spec, 3).layer(layer).state_dict().items()}
    values = {}
    for name, shape in shapes.items():
        positive = name.endswith(("norm.weight", "running_var"))
        values[name] = uniform(f"{layer}.{name}", shape, *((0.5, 1.5) if positive else (-0.3, 0.3)))
    return values


def inputs(lengths: tuple[int, ...], width: int) -> Tensor:
    """(B, T, F), zero beyond the ends."""
    x = uniform("inputs", (len(lengths), max(lengths), width), -1.7, 1.7)
    for row, length in enumerate(lengths):
        x[row, length:] = 0
    return x


def fill(module: nn.Module, given: dict[str, Tensor], names: dict[str, str]) -> None:
    """Give NeMo's module these weights; a 1x1 convolution of its is a matrix of ours."""
    own = module.state_dict()
    found = {}
    for name, tensor in given.items():
        part = max((part for part in names if name == part or name.startswith(f"{part}.")), key=len)
        theirs = names[part] + name.removeprefix(part)
        found[theirs] = tensor.reshape(own[theirs].shape)
    left = module.load_state_dict(found, strict=False)
    assert not left.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in left.missing_keys)


def nemo_results() -> dict[str, np.ndarray[Any, Any]]:
    """Outputs of one block and of the subsampling: what the tests compare with."""
    from nemo.collections.asr.parts.submodules.conformer_modules import ConformerLayer
    from nemo.collections.asr.parts.submodules.multi_head_attention import RelPositionalEncoding
    from nemo.collections.asr.parts.submodules.subsampling import ConvSubsampling

    width, heads = SPEC.sizes.width, SPEC.sizes.heads
    results = {}
    for norm, theirs in NORMS.items():
        spec = SPEC.model_copy(update={"norm": norm})
        layer = ConformerLayer(width, 4 * width, n_heads=heads, conv_kernel_size=15, conv_norm_type=theirs)
        fill(layer, weights(spec, "block_1"), BLOCK)
        if norm == "group":
            layer.conv.batch_norm.eps = 1e-3  # as lingvo has it, and thaw
        encoding = RelPositionalEncoding(width, 0.0, max_len=50, xscale=None).eval()
        encoding.extend_pe(max(LENGTHS), torch.device("cpu"), torch.float32)
        x = inputs(LENGTHS, width)
        _, places = encoding(x)
        pad = torch.arange(max(LENGTHS)) >= torch.tensor(LENGTHS).unsqueeze(1)
        mask = pad.unsqueeze(1) | pad.unsqueeze(2)
        with torch.no_grad():
            layer.eval()
            if norm == "batch":  # NeMo's group norm is of the padding too
                y = layer(x, att_mask=mask, pos_emb=places, pad_mask=pad)
                results |= {f"{norm} eval {row}": y[row, :length].numpy() for row, length in enumerate(LENGTHS)}
            for module in layer.modules():  # statistics of the batch, but no dropout
                module.training = not isinstance(module, nn.Dropout)
            results[f"{norm} train"] = layer(x[:1], pos_emb=places)[0].numpy()
    subsampling = ConvSubsampling("striding", 4, 80, width, SPEC.sizes.channels, activation=nn.ReLU())
    fill(subsampling, weights(SPEC, "subsampling"), SUBSAMPLING)
    with torch.no_grad():
        y, lengths = subsampling(inputs(FEATURES, 80), torch.tensor(FEATURES))
    return results | {"subsampling": y.numpy(), "subsampling lengths": lengths.numpy()}


if __name__ == "__main__":
    import nemo

    torch.set_num_threads(1)
    np.savez_compressed(DATA, **nemo_results())
    print(f"NeMo {nemo.__version__}, torch {torch.__version__}: {DATA.stat().st_size} bytes", file=sys.stderr)
