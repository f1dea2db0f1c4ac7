"""Make espnet.npz with ESPnet's own modules: in an environment with this repository's torch and numpy,
pip install --no-deps espnet==202511 six typeguard==2.13.3, then python -m tests.models.make_golden_espnet.

ESPnet is not needed to run the tests; where it is installed, they compare with it as well. Weights and inputs come from
numpy's generator, by thaw's names, so that nothing of thaw's own is in them but names and sizes. ESPnet numbers the
blank 0 and the end last; of its decoder the blank, of its CTC the end is given a probability of nothing.
"""

from __future__ import annotations

import sys
import zlib
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DATA = Path(__file__).parent / "espnet.npz"
UNITS = 8
NEVER = -1e9
FEATURES, CELLS, PROJECTION, STRIDES = 5, 4, 6, (1, 2, 2)
RNNP_FRAMES = (13, 8)
VGG_FRAMES, VGG_FEATURES = 11, 9
WIDTH, ATTENTION, CHANNELS, REACH = 7, 5, 3, 4  # of the recurrent decoder
HEARD = (7, 5)  # encoder frames
SAID = ((1, 0, 7, 7), (2, 3, 4, 5))
UNEVEN = ((1, 0, 7, 7), (2, 3))
SMOOTHING = 0.1
SHARES = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5], np.float64) / 36  # of the units and the end
SEARCH = {"beam": 3, "ctc_weight": 0.3, "penalty": 0.1}
SEARCH_FRAMES = (15, 22)
ENDS = 3.0  # added to the bias of the end, so that a search does not go on to the last frame
PREFIX = (2, 2, 5)
TRANSFORMER = {"width": 8, "heads": 2, "inner": 12, "blocks": 2}
TRANSFORMER_FRAMES, TRANSFORMER_FEATURES = 23, 9
NOAM = {"width": 256, "factor": 5.0, "warm": 25_000, "steps": (1, 10, 24_999, 25_000, 25_001, 300_000)}


def uniform(name: str, shape: tuple[int, ...], width: float = 0.5) -> Tensor:
    """Numbers that depend on the name and shape alone."""
    made = np.random.default_rng(zlib.crc32(name.encode())).uniform(-width, width, shape)
    return torch.from_numpy(made).float()


def valued(names: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """A value for each tensor, by thaw's names."""
    return {name: uniform(name, tuple(shape)) for name, shape in names.items()}


def linear(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{end}": f"{theirs}.{end}" for end in ("weight", "bias")}


def rnnp_keys() -> dict[str, str]:
    """Our tensors of the recurrent encoder -> ESPnet's."""
    keys = {}
    for place in range(len(STRIDES)):
        for way in ("", "_reverse"):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                keys[f"layers.blstm_{place + 1}.lstm.{name}{way}"] = f"birnn{place}.{name}_l0{way}"
        keys |= linear(f"layers.blstm_{place + 1}", f"bt{place}")
    return keys


VGG_KEYS = {
    f"{end}.{place}": f"{conv}.{end.removesuffix('s').replace('biase', 'bias')}"
    for end in ("weights", "biases")
    for place, conv in enumerate(("conv1_1", "conv1_2", "conv2_1", "conv2_2"))
}
DECODER_KEYS = {
    "layers.attention.weight_frames": "att.0.mlp_enc.weight",
    "layers.attention.bias_frames": "att.0.mlp_enc.bias",
    "layers.attention.weight_state": "att.0.mlp_dec.weight",
    "layers.attention.kernel": "att.0.loc_conv.weight",
    "layers.attention.weight_location": "att.0.mlp_att.weight",
    "layers.attention.weight_energy": "att.0.gvec.weight",
    "layers.attention.bias_energy": "att.0.gvec.bias",
    "layers.decoder.embedding": "embed.weight",
    **{f"layers.decoder.{name}": f"decoder.0.{name}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
    **linear("layers.attention_output", "output"),
}


def transformer_keys() -> tuple[dict[str, str], dict[str, str]]:
    """Our tensors -> those of ESPnet's encoder, and of its decoder."""
    sums = {"sums.first": "feed_forward.w_1", "sums.second": "feed_forward.w_2"}

    def attention(ours: str, theirs: str) -> dict[str, str]:
        parts = {"query": "linear_q", "key": "linear_k", "value": "linear_v", "out": "linear_out"}
        return {f"{ours}.{one}": f"{theirs}.{other}" for one, other in parts.items()}

    encoder = {"layers.subsampling.first": "embed.conv.0", "layers.subsampling.second": "embed.conv.2"}
    encoder["layers.subsampling.sum"] = "embed.out.0"
    decoder = {"layers.attention_output.sum": "output_layer"}
    blocks = TRANSFORMER["blocks"]
    for place in range(blocks):
        ours, theirs = f"layers.encoder_{place + 1}", f"encoders.{place}"
        parts = {**sums, "norm_attention": "norm1", "norm_sums": "norm2", **attention("attention", "self_attn")}
        encoder |= {f"{ours}.{one}": f"{theirs}.{other}" for one, other in parts.items()}
        ours, theirs = f"layers.decoder_{place + 1}", f"decoders.{place}"
        parts = {**sums, "norm_labels": "norm1", "norm_frames": "norm2", "norm_sums": "norm3"}
        parts |= {**attention("labels", "self_attn"), **attention("frames", "src_attn")}
        decoder |= {f"{ours}.{one}": f"{theirs}.{other}" for one, other in parts.items()}
    encoder[f"layers.encoder_{blocks}.norm_last"] = decoder[f"layers.decoder_{blocks}.norm_last"] = "after_norm"
    whole = [{k: v for o, t in keys.items() for k, v in linear(o, t).items()} for keys in (encoder, decoder)]
    whole[1]["layers.embedding.weight"] = "embed.0.weight"
    return whole[0], whole[1]


def filled(module: nn.Module, keys: Mapping[str, str], rows: Mapping[str, float] | None = None) -> None:
    """Give ESPnet's module our values. `rows`: tensors with a row of its own for the blank, which gets this value."""
    state = module.state_dict()
    for ours, theirs in keys.items():
        shape = tuple(state[theirs].shape)
        if ours.endswith("kernel"):  # theirs is a kernel of pictures
            shape = (shape[0], 1, shape[3])
        if rows and theirs in rows:
            value = uniform(ours, (shape[0] - 1, *shape[1:]))
            value = torch.cat([torch.full_like(value[:1], rows[theirs]), value])
        else:
            value = uniform(ours, shape)
        state[theirs].copy_(value.view(state[theirs].shape))
    assert set(state) - set(keys.values()) <= {name for name in state if name.endswith(".pe")}, set(state)


def heard(name: str, lengths: tuple[int, ...], width: int) -> Tensor:
    """Frames (B, T, width), zero beyond their ends."""
    x = uniform(name, (len(lengths), max(lengths), width), 2.0)
    for row, length in zip(x, lengths, strict=True):
        row[length:] = 0.0
    return x


def ctc_log_probs() -> Tensor:
    """What CTC hears of the longer of the utterances that are searched, (T, units and the blank): mostly blanks."""
    scores = uniform("ctc", (max(SEARCH_FRAMES), UNITS + 1), 3.0)
    scores[:, -1] += 3.0
    return scores.log_softmax(-1)


def padded(rows: tuple[tuple[int, ...], ...]) -> Tensor:
    """Labels as ESPnet has them: its blank is 0, -1 is padding."""
    out = torch.full((len(rows), max(map(len, rows))), -1)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = torch.tensor(row) + 1
    return out


def encoders() -> dict[str, Any]:
    from espnet.nets.pytorch_backend.rnn.encoders import RNNP, VGG2L

    rnnp = RNNP(FEATURES, len(STRIDES), CELLS, PROJECTION, np.array([1, *STRIDES]), 0.0).eval()
    filled(rnnp, rnnp_keys())
    made, lengths, _ = rnnp(heard("x rnnp", RNNP_FRAMES, FEATURES), torch.tensor(RNNP_FRAMES))
    vgg = VGG2L(1).eval()
    filled(vgg, VGG_KEYS)
    deep, _, _ = vgg(heard("x vgg", (VGG_FRAMES,), VGG_FEATURES), torch.tensor([VGG_FRAMES]))
    return {"rnnp": made, "rnnp_lengths": lengths, "vgg": deep[:, :, ::37], "vgg_norm": deep.norm()}


def recurrent() -> dict[str, Any]:
    from espnet.nets.pytorch_backend.rnn.attentions import AttLoc
    from espnet.nets.pytorch_backend.rnn.decoders import Decoder

    def decoder(labeldist: Any = None, smoothing: float = 0.0) -> Decoder:
        att = nn.ModuleList([AttLoc(PROJECTION, WIDTH, ATTENTION, CHANNELS, REACH)])
        end = UNITS + 1
        names = [str(number) for number in range(end + 1)]
        made = Decoder(PROJECTION, UNITS + 2, "lstm", 1, WIDTH, end, end, att, 0, names, labeldist, smoothing, 0.0, 0.0)
        filled(made, DECODER_KEYS, {"embed.weight": 0.0, "output.weight": 0.0, "output.bias": NEVER})
        return made.eval()

    x = heard("x decoder", HEARD, PROJECTION)
    dist = np.concatenate([[0.0], SHARES]).astype(np.float32)
    plain, right, _ = decoder()(x, torch.tensor(HEARD), padded(UNEVEN))
    smooth, _, _ = decoder(dist, SMOOTHING)(x, torch.tensor(HEARD), padded(SAID))
    attention = decoder().att[0]
    state, before = uniform("state", (2, WIDTH)), uniform("before", (2, HEARD[0])).softmax(-1)
    before[1, HEARD[1] :] = 0.0
    read, weights = attention(x, list(HEARD), state, before)
    found = {"decoder_loss": plain, "decoder_right": right, "decoder_smooth": smooth}
    found |= {"attention": weights, "attended": read, **searched(decoder())}
    return found


def searched(decoder: Any) -> dict[str, Any]:
    """Labels and scores of the three best, of two utterances one by one."""
    decoder.output.bias[-1] += ENDS
    found: dict[str, Any] = {}
    for number, frames in enumerate(SEARCH_FRAMES):
        options = Namespace(beam_size=SEARCH["beam"], penalty=SEARCH["penalty"], ctc_weight=SEARCH["ctc_weight"])
        options.maxlenratio = options.minlenratio = 0.0
        options.nbest, options.lm_weight = 3, 0.0
        ours = ctc_log_probs()[:frames]
        theirs = torch.cat([ours[:, -1:], ours[:, :-1], torch.full((frames, 1), NEVER)], dim=1)
        h = heard("x search", (frames,), PROJECTION)[0]
        names = [str(number) for number in range(UNITS + 2)]
        best = decoder.recognize_beam(h, theirs, options, names)
        end = UNITS + 1
        for rank, hypothesis in enumerate(best):
            labels = [label - 1 for label in hypothesis["yseq"] if label != end]
            found[f"search_{number}_{rank}_labels"] = np.array(labels)
            found[f"search_{number}_{rank}_score"] = float(hypothesis["score"])
    return found


def prefixes() -> dict[str, Any]:
    from espnet.nets.ctc_prefix_score import CTCPrefixScore

    ours = ctc_log_probs().numpy()
    theirs = np.concatenate([ours[:, -1:], ours[:, :-1], np.full((len(ours), 1), NEVER, np.float32)], axis=1)
    score = CTCPrefixScore(theirs, 0, UNITS + 1, np)
    state, said, rows = score.initial_state(), [UNITS + 1], []
    candidates = np.arange(1, UNITS + 2)
    for label in (*PREFIX, None):
        values, states = score(said, candidates, state)
        rows.append(values)
        if label is not None:
            state, said = states[label], [*said, label + 1]
    return {"prefixes": np.stack(rows)}


def transformer() -> dict[str, Any]:
    from espnet.nets.pytorch_backend.transformer.decoder import Decoder
    from espnet.nets.pytorch_backend.transformer.encoder import Encoder
    from espnet.nets.pytorch_backend.transformer.label_smoothing_loss import LabelSmoothingLoss
    from espnet.nets.pytorch_backend.transformer.mask import subsequent_mask
    from espnet.nets.pytorch_backend.transformer.optimizer import NoamOpt

    sizes = TRANSFORMER
    size = {"attention_dim": sizes["width"], "attention_heads": sizes["heads"]}
    size |= {"linear_units": sizes["inner"], "num_blocks": sizes["blocks"]}
    encoder, decoder = Encoder(TRANSFORMER_FEATURES, **size).eval(), Decoder(UNITS + 1, **size).eval()
    for module, keys in zip((encoder, decoder), transformer_keys(), strict=True):
        filled(module, keys)
    x = heard("x transformer", (TRANSFORMER_FRAMES,), TRANSFORMER_FEATURES)
    encoded, _ = encoder(x, torch.ones(1, 1, TRANSFORMER_FRAMES, dtype=torch.bool))
    said = torch.tensor([[UNITS, *SAID[0]]])
    mask = subsequent_mask(said.shape[1]).unsqueeze(0)
    logits, _ = decoder(said, mask, encoded, torch.ones(1, 1, encoded.shape[1], dtype=torch.bool))
    loss = LabelSmoothingLoss(UNITS + 1, -1, SMOOTHING)(logits, torch.tensor([[*SAID[0], UNITS]]))
    noam = NoamOpt(NOAM["width"], NOAM["factor"], NOAM["warm"], None)
    rates = np.array([noam.rate(step) for step in NOAM["steps"]])
    return {"encoded": encoded, "decoded": logits, "uniform_loss": loss, "noam": rates}


def golden() -> dict[str, np.ndarray]:
    """All that ESPnet says."""
    with torch.no_grad():
        found = {**encoders(), **recurrent(), **prefixes(), **transformer()}
    return {name: np.asarray(value) for name, value in found.items()}


if __name__ == "__main__":
    np.savez_compressed(sys.argv[1] if len(sys.argv) > 1 else DATA, **golden())
