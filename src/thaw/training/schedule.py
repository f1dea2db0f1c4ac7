"""The learning rate of each step."""

from __future__ import annotations

import math

from thaw.config.schema import RecipeSpec


def warmup(recipe: RecipeSpec, total: int) -> int:
    """How many of `total` steps warm up."""
    return recipe.warmup_steps or int(recipe.warmup_ratio * total)


def rate(recipe: RecipeSpec, step: int, total: int) -> float:
    """The learning rate of the 1-based `step` out of `total`; RecipeSpec.schedule says which law holds.

    constant: a linear rise that reaches the full rate with the last step of the warm-up, then that rate. cosine: as
    NVIDIA/NeMo v0.10.1 nemo/utils/lr_policies.py (CosineAnnealing) has it, a linear rise whose last step stays below
    the full rate, then half a cosine from there towards min_learning_rate, which the step after the last would reach.
    """
    full, warm = recipe.learning_rate, warmup(recipe, total)
    if recipe.schedule == "constant":
        return full * min(1.0, step / max(1, warm))
    done = step - 1
    if done < warm:
        return full * (done + 1) / (warm + 1)
    least, share = recipe.min_learning_rate, (done - warm) / (total - warm)
    return least + (full - least) * 0.5 * (1.0 + math.cos(math.pi * share))
