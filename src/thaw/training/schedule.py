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
    noam: see `noam`; learning_rate is its factor.
    """
    full, warm = recipe.learning_rate, warmup(recipe, total)
    if recipe.schedule == "noam":
        return noam(full, recipe.schedule_width, step, max(1, warm), recipe.min_learning_rate)
    if recipe.schedule == "constant":
        return full * min(1.0, step / max(1, warm))
    done = step - 1
    if done < warm:
        return full * (done + 1) / (warm + 1)
    # Batches by seconds are not as many in every epoch: there may be some more than the first one foretold.
    least, share = recipe.min_learning_rate, min(1.0, (done - warm) / max(1, total - warm))
    return least + (full - least) * 0.5 * (1.0 + math.cos(math.pi * share))


def noam(factor: float, width: int, step: int, warm: int, least: float = 0.0) -> float:
    """A linear rise over `warm` steps, then a fall with the root of the step (Vaswani et al. 2017, equation 3).

    factor · width^-0.5 · min(step^-0.5, step · warm^-1.5), and after the warm-up nothing below `least` (the last as
    NVIDIA/NeMo has it, nemo/core/optim/lr_scheduler.py NoamAnnealing).
    """
    made: float = factor * width**-0.5 * min(step**-0.5, step * warm**-1.5)
    return max(made, least) if step > warm else made
