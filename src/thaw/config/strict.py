"""What everything that a config can say is made of, and what of it goes into a hash."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Base of everything a config file can say: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def semantic(spec: BaseModel, *leave_out: str) -> dict[str, Any]:
    """A spec as plain JSON types with defaults (and `leave_out`) dropped: what goes into a hash."""
    return spec.model_dump(mode="json", exclude_defaults=True, exclude=set(leave_out))
