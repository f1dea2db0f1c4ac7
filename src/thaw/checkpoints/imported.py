"""What every import of a released checkpoint ends in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from thaw.config.models import ModelSpec
from thaw.models import LayeredModel


@dataclass(frozen=True)
class Imported:
    """What a checkpoint becomes. `optimizer` is as the optimizer's own `state` gives it, or empty."""

    spec: ModelSpec
    model: LayeredModel
    optimizer: dict[str, Tensor]
    record: dict[str, Any]
