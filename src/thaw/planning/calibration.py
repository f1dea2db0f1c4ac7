"""What training and inference cost on one machine, as `thaw plan --calibrate` measured it."""

from __future__ import annotations

from collections.abc import Iterable

from thaw.config.models import ModelSpec
from thaw.config.schema import Optimizer, Precision
from thaw.config.strict import Strict
from thaw.planning.artifacts import Run

BATCH_CLIP_SECONDS = 5.0  # of audio, that an utterance of a batch by seconds is taken to be


class Setting(Strict):
    """What the cost of a training step depends on, but for the layers frozen."""

    model: ModelSpec
    batch_size: int
    precision: Precision
    optimizer: Optimizer = "adam-tf"
    dropout: bool = False


class Timing(Setting):
    """Costs of one model on one machine, in seconds of computing per second of audio."""

    clip_seconds: float  # length of the generated utterances
    steps: dict[str, float]  # a training step, by the layers frozen, as `freeze_key` writes them
    forward: float  # inference only

    @property
    def setting(self) -> Setting:
        """What was timed."""
        return Setting.model_validate(self.model_dump(include=set(Setting.model_fields)))


class Calibration(Strict):
    """Costs measured on one machine, which is named by its kind, not by its name."""

    device: str
    unit: str  # "GPU-hours": wall clock of one GPU; "CPU-hours": processor time, all threads added up
    torch: str
    timings: tuple[Timing, ...]

    def timing(self, run: Run) -> Timing | None:
        """The timing of the setting of a run; None where it was not calibrated."""
        wanted = setting_of(run)
        return next((timing for timing in self.timings if timing.setting == wanted), None)

    def covers(self, run: Run) -> bool:
        """Whether the training of a run can be estimated."""
        timing = self.timing(run)
        return timing is not None and freeze_key(run.recipe.freeze) in timing.steps

    def joined(self, old: Calibration | None) -> Calibration:
        """This, and what `old` knows beyond it; nothing of another device or torch."""
        if old is None or (old.device, old.torch) != (self.device, self.torch):
            return self
        timings = {timing.setting: timing for timing in old.timings}
        for timing in self.timings:
            key = timing.setting
            before = timings[key].steps if key in timings else {}
            timings[key] = timing.model_copy(update={"steps": {**before, **timing.steps}})
        return self.model_copy(update={"timings": tuple(timings.values())})


def setting_of(run: Run) -> Setting:
    """What the cost of a step of a run depends on, but for the layers frozen."""
    recipe = run.recipe.recipe
    return Setting(
        model=run.recipe.model,
        batch_size=round(recipe.batch_seconds / BATCH_CLIP_SECONDS) or recipe.batch_size,
        precision=recipe.precision,
        optimizer=recipe.optimizer,
        dropout=recipe.dropout > 0,
    )


def freeze_key(layers: Iterable[str]) -> str:
    """A set of frozen layers as a key: their names, sorted, with commas; `none` for none."""
    return ",".join(sorted(layers)) or "none"
