"""Writers of what NeMo releases, so that tests can make whatever NeMo would not.

Names and layouts are written out here, apart from the reader.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from thaw.config.models import QuartzNetSpec
from thaw.models import LayeredModel, build
from thaw.models.quartznet import nemo_keys

LETTERS = " ab'é"
SPEC = QuartzNetSpec(kind="quartznet", variant="mini-3x1")


def model(spec: QuartzNetSpec = SPEC, letters: str = LETTERS) -> LayeredModel:
    """A model with other values everywhere, statistics too."""
    made = build(spec, len(letters) + 1)
    made.initialise(3)
    generator = torch.Generator().manual_seed(5)
    for name, buffer in made.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(generator=generator)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0, generator=generator)
    for parameter in made.parameters():
        if parameter.dim() == 1:
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return made.eval()


def state(made: LayeredModel, spec: QuartzNetSpec = SPEC) -> dict[str, Tensor]:
    """The state dict that NeMo would save of it."""
    own = made.state_dict()
    named = {theirs: own[ours].clone() for ours, theirs in nemo_keys(spec).items()}
    for name in list(named):
        if name.endswith("running_var"):
            named.setdefault(name.replace("running_var", "num_batches_tracked"), torch.tensor(7))
    return named


def jasper(spec: QuartzNetSpec = SPEC) -> list[dict[str, Any]]:
    """The list of blocks, as NeMo's configurations have it."""
    rows = []
    for block in spec.blocks.values():
        row: dict[str, Any] = {"filters": block.channels, "repeat": block.repeat, "dropout": 0.0}
        row |= {"kernel": [block.kernel], "stride": [block.stride], "dilation": [block.dilation]}
        row |= {"residual": block.residual}
        rows.append(row | ({"separable": True} if block.separable else {}))
    return rows


FEATURES = {"normalize": "per_feature", "window_size": 0.02, "sample_rate": 16000, "window_stride": 0.01}
FEATURES |= {"window": "hann", "features": 64, "n_fft": 512, "frame_splicing": 1, "dither": 1e-05, "stft_conv": False}


def config(layout: str = "params", letters: str = LETTERS, spec: QuartzNetSpec = SPEC) -> dict[str, Any]:
    """A configuration: `params` and `target` as in .nemo files, old and new; `v0.10` as beside the pair."""
    encoder = {"feat_in": 64, "activation": "relu", "conv_mask": True, "jasper": jasper(spec)}
    decoder = {"feat_in": 256, "num_classes": len(letters), "vocabulary": list(letters)}
    if layout == "v0.10":
        sections = {"JasperEncoder": encoder, "AudioToMelSpectrogramPreprocessor": FEATURES | {"stft_conv": True}}
        return {"model": "QuartzNet", "labels": list(letters), **sections}
    sections = {"preprocessor": dict(FEATURES), "encoder": encoder, "decoder": decoder}
    if layout == "params":
        return {name: {"cls": f"nemo.{name}", "params": values} for name, values in sections.items()}
    return {name: {"_target_": f"nemo.{name}", **values} for name, values in sections.items()}


def saved(value: object, *, zipped: bool = True) -> bytes:
    """What torch.save writes, now or before 1.6."""
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes | tarfile.TarInfo], *, packed: bool = True) -> Path:
    """A tar of members as they are given, a `./` in front as in NeMo's own."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:") as tar:
        folder = tarfile.TarInfo("./")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    path.write_bytes(gzip.compress(file.getvalue(), 1) if packed else file.getvalue())
    return path


def write_nemo(
    path: Path,
    tensors: object,
    settings: Mapping[str, Any] | bytes | None = None,
    *,
    packed: bool = True,
    zipped: bool = True,
) -> Path:
    """A .nemo file."""
    given = config() if settings is None else settings
    text = given if isinstance(given, bytes) else yaml.safe_dump(given, allow_unicode=True).encode()
    members = {"./model_config.yaml": text, "./model_weights.ckpt": saved(tensors, zipped=zipped)}
    return write_tar(path, members, packed=packed)


def write_pair(folder: Path, tensors: Mapping[str, Tensor], *, step: int = 9, lists: bool = False) -> Path:
    """Encoder and decoder of NeMo 0.10, or, with `lists`, of before 0.9."""
    folder.mkdir(exist_ok=True)
    halves: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}}
    for name, tensor in tensors.items():
        half, _, short = name.partition(".")
        if lists:
            short = short.replace(".conv.weight", ".weight").replace(".mconv.", ".conv.")
        halves[half][short] = tensor
    for half, name in (("encoder", "JasperEncoder"), ("decoder", "JasperDecoderForCTC")):
        (folder / f"{name}-STEP-{step}.pt").write_bytes(saved(halves[half], zipped=False))
    return folder
