"""What the configuration of a NeMo model says: its letters, its blocks, its front end.

Three layouts are read. Sources: NVIDIA/NeMo v0.10.1 examples/asr/configs/quartznet15x5.yaml (sections named after
classes), the model_config.yaml of QuartzNet15x5Base-En.nemo (`cls` and `params`), and that of later files (`_target_`
beside the parameters). A setting that is not given has NeMo's default, which is what thaw computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import yaml

from thaw.config.models import Block, QuartzNetSpec
from thaw.errors import UserError

MAX_CONFIG = 1 << 19  # bytes; a model of 5,000 letters that repeats them in every section has half of that
MAX_NODES = 200_000  # values, where a value that is referred to counts each time

VARIANTS: tuple[str, ...] = get_args(QuartzNetSpec.model_fields["variant"].annotation)
SECTIONS = {
    "preprocessor": "AudioToMelSpectrogramPreprocessor",
    "encoder": "JasperEncoder",
    "decoder": "JasperDecoderForCTC",
}

# What thaw.frontends computes for QuartzNet. Source: NVIDIA/NeMo v1.0.0
# nemo/collections/asr/parts/preprocessing/features.py and modules/audio_preprocessing.py.
FRONTEND: dict[str, Any] = {
    "sample_rate": 16000,
    "window_size": 0.02,
    "window_stride": 0.01,
    "n_window_size": 320,
    "n_window_stride": 160,
    "window": "hann",
    "normalize": "per_feature",
    "n_fft": 512,
    "preemph": 0.97,
    "features": 64,
    "feat_type": "logfbank",
    "lowfreq": 0,
    "highfreq": 8000,
    "log": True,
    "log_zero_guard_type": "add",
    "log_zero_guard_value": 2**-24,
    "frame_splicing": 1,
    "mag_power": 2.0,
    "mel_norm": "slaney",
    "exact_pad": False,
}
# These make no other features: NeMo's usual value, and what another one means.
LENIENT: dict[str, tuple[float, str]] = {
    "dither": (1e-5, "noise in training, which is `augmentation: dither` of a recipe here"),
    "pad_to": (16, "padding, which is no part of an utterance here"),
    "pad_value": (0.0, "padding, which is no part of an utterance here"),
}
STFT_CONV = {"v0.10": True, "v1.0": False, "2025-07": False}
SILENT = {"cls", "_target_", "params", "nb_augmentation_prob", "nb_max_freq", "rng", "use_grads", "stft_exact_pad"}

ENCODER = {"feat_in": 64, "activation": "relu", "normalization_mode": "batch", "residual_mode": "add"}
SIZES = ("filters", "kernel", "repeat", "stride", "dilation")  # as the fields of Block
FLAGS = ("residual", "separable")
NEUTRAL = {"groups": 1, "heads": -1, "norm_groups": -1, "residual_mode": "add", "normalization": "batch"}
NEUTRAL |= {"kernel_size_factor": 1.0, "frame_splicing": 1}


def read_config(data: bytes, where: str) -> dict[str, Any]:
    """A YAML mapping of plain values; `where` names it in errors.

    UserError for other YAML, for tags that would build objects, and for references that multiply it ("bombs").
    """
    if len(data) > MAX_CONFIG:
        raise UserError(f"{where}: larger than {MAX_CONFIG >> 10} KiB: no configuration of a QuartzNet")
    try:
        loader = yaml.SafeLoader(data.decode("utf-8-sig"))
        root = loader.get_single_node()
        if root is not None:
            _weigh(root, {}, where)
            value = loader.construct_document(root)
        else:
            value = None
    except UserError:
        raise
    except Exception as error:  # values that contradict their tags make PyYAML raise whatever Python does
        first = str(getattr(error, "problem", None) or error).partition("\n")[0][:160]
        raise UserError(f"{where}: not plain YAML ({first or type(error).__name__})") from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise UserError(f"{where}: not a configuration of NeMo, which is a mapping from names to sections")
    return value


def _weigh(node: yaml.Node, known: dict[int, int | None], where: str) -> int:
    """How many values a node stands for once its references are written out; UserError for too many, or for a loop."""
    if id(node) in known:
        weight = known[id(node)]
        if weight is None:
            raise UserError(f"{where}: a value in it contains itself; refused")
        return weight
    known[id(node)] = None
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        parts = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        parts = node.value
    total = 1 + sum(_weigh(part, known, where) for part in parts)
    if total > MAX_NODES:
        raise UserError(f"{where}: stands for more than {MAX_NODES} values, by references to references; refused")
    known[id(node)] = total
    return total


def section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The parameters of the preprocessor, encoder or decoder, in whichever layout; empty where there is none."""
    found = config.get(name, config.get(SECTIONS[name]))
    if not isinstance(found, dict):
        return {}
    params = found.get("params")
    return params if isinstance(params, dict) else found


def vocabulary(config: Mapping[str, Any], where: str) -> list[str] | None:
    """The letters of the output layer in the order of its rows; None where the configuration does not say.

    UserError where they are not single characters, each once: then the model does not spell.
    """
    letters = section(config, "decoder").get("vocabulary")
    letters = config.get("labels") if letters is None else letters
    if letters is None:
        return None
    if not isinstance(letters, list) or not all(isinstance(letter, str) for letter in letters):
        raise UserError(f"{where}: its vocabulary is not a list of letters but {_short(letters)}")
    pieces = [letter for letter in letters if len(letter) != 1]
    if pieces:
        raise UserError(
            f"{where}: {len(pieces)} of its {len(letters)} classes are not single characters ({_short(pieces[:8])}): "
            "it writes pieces of words, and thaw reads models that spell"
        )
    if len(set(letters)) != len(letters):
        raise UserError(f"{where}: letters given twice: {sorted({x for x in letters if letters.count(x) > 1})}")
    return list(letters)


def blocks(config: Mapping[str, Any], where: str) -> tuple[Block, ...] | None:
    """The encoder's blocks; None where the configuration has no encoder.

    UserError for an encoder that is not built of Jasper's blocks, and for parts that QuartzNet has not.
    """
    encoder = section(config, "encoder")
    if not encoder:
        return None
    rows = encoder.get("jasper")
    if not isinstance(rows, list) or not rows:
        kind = encoder.get("_target_") or (config.get("encoder") or {}).get("cls")
        raise UserError(f"{where}: its encoder ({_short(kind)}) has no list of blocks (`jasper`): not a QuartzNet")
    other = [
        f"{key}: {_short(encoder[key])}" for key, value in ENCODER.items() if not same(encoder.get(key, value), value)
    ]
    other += _extras(encoder, {*ENCODER, *SILENT, "jasper", "conv_mask", "init_mode"})
    if other:
        raise UserError(f"{where}: its encoder has {', '.join(other)}, which QuartzNet has not")
    return tuple(_block(row, f"{where}: block {number} of its encoder") for number, row in enumerate(rows))


def _block(row: object, where: str) -> Block:
    if not isinstance(row, dict):
        raise UserError(f"{where} is {_short(row)}, not a mapping")
    if other := _extras(row, {*SIZES, *FLAGS, "dropout"}):
        raise UserError(f"{where} has {', '.join(other)}, which QuartzNet has not")
    sizes = [_size(row.get(key)) for key in SIZES]
    flags = [row.get(key, False) for key in FLAGS]
    wrong = [key for key, size in zip(SIZES, sizes, strict=True) if size == 0]
    wrong += [key for key, flag in zip(FLAGS, flags, strict=True) if not isinstance(flag, bool)]
    if wrong:
        raise UserError(f"{where} has no usable {', '.join(f'{key} ({_short(row.get(key))})' for key in wrong)}")
    filters, kernel, repeat, stride, dilation = sizes
    return Block(filters, kernel, repeat, stride, dilation, *flags)


def _size(value: object) -> int:
    """A count, also where it is the only one of a list; 0 for anything else."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 20 else 0


def _extras(given: Mapping[Any, Any], known: set[str]) -> list[str]:
    """Settings beyond the known ones that switch something on."""
    return [
        f"{_short(key)}: {_short(value)}"
        for key, value in given.items()
        if key not in known
        and value not in (None, False, 0, [], "")
        and not (key in NEUTRAL and same(value, NEUTRAL[key]))
    ]


def variant_of(found: tuple[Block, ...]) -> str | None:
    """The QuartzNet whose blocks these are; None where thaw knows none."""
    for variant in VARIANTS:
        if tuple(spec_of(variant).blocks.values()) == found:
            return variant
    return None


def spec_of(variant: str, frontend_version: str = "v1.0") -> QuartzNetSpec:
    """A QuartzNet by name."""
    plain = {"kind": "quartznet", "variant": variant, "frontend_version": frontend_version}
    return QuartzNetSpec.model_validate(plain)


def check_frontend(config: Mapping[str, Any], spec: QuartzNetSpec, where: str) -> tuple[dict[str, Any], list[str]]:
    """The settings of the front end that were compared, and notes on those that differ without harm.

    UserError names all settings that make other features than those of thaw: weights fit the features they saw.
    """
    given = {str(key): value for key, value in section(config, "preprocessor").items() if key not in SILENT}
    if not given:
        return {}, ["no settings of a front end: that its weights fit thaw's features is taken on trust"]
    compared = {key: value for key, value in given.items() if key in FRONTEND and value is not None}
    wrong = [f"{k} {_short(v)} (thaw: {FRONTEND[k]})" for k, v in compared.items() if not same(v, FRONTEND[k])]
    if wrong:
        raise UserError(f"{where}: its weights are for other features than thaw computes: {', '.join(wrong)}")
    notes = [
        f"front end: {key} is {_short(given[key])}, not {usual}: {meaning}"
        for key, (usual, meaning) in LENIENT.items()
        if given.get(key) is not None and not same(given[key], usual)
    ]
    conv = given.get("stft_conv")
    if conv is not None and bool(conv) != STFT_CONV[spec.frontend_version]:
        fits = "v0.10" if conv else "v1.0"
        notes.append(
            f"front end: stft_conv is {_short(conv)}, as in NeMo {fits}, and the model's frontend_version is "
            f"{spec.frontend_version}; {fits} would fit better"
        )
    known = {*FRONTEND, *LENIENT, "stft_conv"}
    if unknown := [f"{key}: {_short(value)}" for key, value in given.items() if key not in known]:
        notes.append(f"front end: settings that thaw does not know: {', '.join(unknown[:12])}")
    plain = {key: value for key, value in given.items() if isinstance(value, str | int | float)}
    return plain, notes


def same(one: object, other: object) -> bool:
    """Equal values; numbers up to rounding, also where YAML takes them for text ("1e-05")."""
    if isinstance(other, bool) or isinstance(one, bool):
        return one is other
    if isinstance(other, int | float):
        try:
            return abs(float(str(one)) - other) <= 1e-6 * abs(other)
        except ValueError:
            return False
    return one == other


def _short(value: object) -> str:
    """A value of the file for a message: of any size and kind, and printable."""
    if isinstance(value, list | tuple):
        text = "[" + ", ".join(_short(part) for part in value[:8]) + (", …]" if len(value) > 8 else "]")
    elif isinstance(value, dict):
        text = f"a mapping of {len(value)}"
    else:
        text = str(value)
    return "".join(c if c.isprintable() else "?" for c in text[:80])
