"""Safetensors files that thaw wrote, opened without torch: for those who compute with numpy alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from thaw.errors import UserError
from thaw.files import verify

METADATA = "thaw"  # the one metadata key: safetensors does not keep several in a fixed order


@contextmanager
def opened(path: Path, framework: Literal["pt", "np"]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A file and its meta; UserError where it is missing, broken or foreign."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    verify(path)
    try:
        with safe_open(path, framework=framework) as file:
            meta = json.loads((file.metadata() or {}).get(METADATA, "null"))
            if not isinstance(meta, dict):
                raise UserError(f"{path}: not written by thaw (its metadata has no {METADATA!r})")
            yield file, meta
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a safetensors file, or cut short ({error})") from error


def load_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """All tensors of a file as arrays, and its meta; see `opened`."""
    with opened(path, "np") as (file, meta):
        arrays = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - no mapping
    return arrays, meta
