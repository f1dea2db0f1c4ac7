"""Models and named tensors as safetensors files: no pickle, and the same content always gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from thaw.canonical import canonical_json
from thaw.config.models import ModelSpec
from thaw.config.starts import BEST
from thaw.config.tasks import TaskSpec
from thaw.errors import UserError
from thaw.files import replacing
from thaw.models.layered import LayeredModel
from thaw.tensors import METADATA, opened
from thaw.units import units_from


def save_model(path: Path, model: LayeredModel, meta: Mapping[str, Any]) -> None:
    """Write the model's weights and buffers.

    `meta` is plain and holds at least "model" (its spec) and what `thaw.units.metadata_of` says of its heads.
    """
    lacks = [names[0] for names in (("model",), ("alphabet", "units", "heads")) if not set(names) & set(meta)]
    if lacks:
        raise ValueError(f"meta lacks {lacks}")
    save_tensors(path, model.state_dict(), meta)


def load_model(path: Path, snapshot: str = BEST) -> tuple[LayeredModel, dict[str, Any]]:
    """Build the model that `path` describes, load its weights (CPU); gives its meta too.

    `path` is a model, which holds the best epoch, or a run's file of further snapshots, of which `snapshot` names one.
    UserError where the file is not a model of thaw, has no such snapshot, or where its tensors are not those of its
    own spec.
    """
    from thaw.models import build  # it imports this module
    from thaw.tasks import tasks_for  # some tasks import models

    tensors, meta = load_tensors(path, snapshot)
    try:
        spec = TypeAdapter[ModelSpec](ModelSpec).validate_python(meta["model"])
        task = TypeAdapter[TaskSpec](TaskSpec).validate_python(meta.get("task", {"kind": "ctc"}))
        classes = {lang: each.classes for lang, each in tasks_for(task, units_from(meta)).items()}
    except (KeyError, TypeError, ValidationError) as error:
        raise UserError(f"{path}: not a model of thaw (its metadata has no usable model and alphabet)") from error
    model = build(spec, classes)
    model.load_layers(tensors, list(model.layers), str(path))
    return model, meta


def save_tensors(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write named tensors (from the CPU, contiguous) and `meta` as canonical JSON; equal content gives equal bytes."""
    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # what the user's umask allows; save_file would make it private
        write_tensors(temporary, plain, {METADATA: canonical_json(dict(meta))})
        temporary.chmod(mode)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file; OSError where it cannot be written, which the library calls by a name of its own."""
    try:
        save_file(dict(tensors), path, metadata=dict(metadata))
    except SafetensorError as error:
        raise OSError(str(error)) from error


def load_tensors(path: Path, snapshot: str = BEST) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Named tensors (CPU) and meta of a file by `save_tensors`; UserError where it is missing, broken or foreign.

    Of a file of snapshots (its meta says "snapshots", its tensors are named <snapshot>/<name>), the named one's.
    """
    with opened(path, "pt") as (file, meta):
        held = tuple(meta.get("snapshots", ()))
        if snapshot not in (held or (BEST,)):
            there = f"it holds {', '.join(held)}" if held else "it holds the best epoch alone"
            raise UserError(f"{path}: no snapshot {snapshot}; {there} (a recipe's `snapshots` says which are kept)")
        prefix = f"{snapshot}/" if held else ""
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - no mapping
        tensors: dict[str, Tensor] = {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    return tensors, meta


def held_snapshots(path: Path) -> tuple[str, ...]:
    """The snapshots in a run's file of them; a model's own file is none, and holds the best epoch."""
    with opened(path, "pt") as (_, meta):
        return tuple(meta.get("snapshots", (BEST,)))
