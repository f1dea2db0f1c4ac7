"""What a config says of a learner: who takes the steps of a training. Known without importing torch.

A new learner is one class here and one module in `thaw.training`; `LearnerSpec` is then a union by `kind`. No `kind`
has a default, since defaults are dropped before a recipe is hashed.
"""

from __future__ import annotations

from typing import Literal

from thaw.config.strict import Strict


class CentralSpec(Strict):
    """One optimiser over all data, on one or many GPUs."""

    kind: Literal["central"]


LearnerSpec = CentralSpec

CENTRAL = CentralSpec(kind="central")
