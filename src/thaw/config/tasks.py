"""What a config says of a task: what is learnt, and how it is judged. Known without importing torch.

A new task is one class here and one module in `thaw.tasks`; `TaskSpec` is then a union by `kind`. No `kind` has a
default, since defaults are dropped before a recipe is hashed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from thaw.config.strict import Strict


class CtcSpec(Strict):
    """Connectionist temporal classification (Graves et al. 2006): the units and a blank, one class per frame."""

    kind: Literal["ctc"]


class FramesSpec(Strict):
    """A tied state for every frame, from an alignment (`thaw align`): what a DNN of a hybrid learns."""

    kind: Literal["frames"]


TaskSpec = Annotated[CtcSpec | FramesSpec, Field(discriminator="kind")]

CTC = CtcSpec(kind="ctc")
