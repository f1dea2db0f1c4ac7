"""Corpora in folds: one corpus stands for as many as it has folds, and each of its speakers is tested once.

`mine` with `folds: 5` becomes the corpora `mine-fold-1` to `mine-fold-5`, each with its own train, dev and test
(`corpora/listing.py: fold_splits`). A study on `mine` trains on each of them; its exhibits take their tests together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thaw.config.schema import CorpusSpec
from thaw.config.sources import OwnSource
from thaw.errors import UserError

if TYPE_CHECKING:
    from thaw.config.config import Config


def expanded(config: Config) -> Config:
    """The config with its folds in the place of every corpus that has some. UserError where one's name is taken."""
    names = {name: folded(name, spec) for name, spec in config.corpora.items() if _folds(spec)}
    if not names:
        return config
    for name, folds in names.items():
        if taken := [fold for fold in folds if fold in config.corpora]:
            raise UserError(f"config: corpora.{taken[0]}: a fold of {name!r} has that name; call it otherwise")
    corpora = {name: spec for name, spec in config.corpora.items() if name not in names}
    corpora |= {fold: spec for folds in names.values() for fold, spec in folds.items()}
    return config.model_copy(update={"corpora": corpora})


def folded(name: str, spec: CorpusSpec) -> dict[str, CorpusSpec]:
    """The folds of a corpus, by name; the corpus itself where it has none."""
    if not _folds(spec):
        return {name: spec}
    return {
        f"{name}-fold-{fold}": spec.model_copy(update={"source": spec.source.model_copy(update={"fold": fold})})
        for fold in range(1, _folds(spec) + 1)
    }


def folds_of(name: str, config: Config) -> list[str]:
    """The corpora that stand for one of the config as it was written: its folds, or itself."""
    return [corpus for corpus, spec in config.corpora.items() if whole_name(corpus, spec) == name]


def fold_of(spec: CorpusSpec) -> int:
    """Which fold a corpus is, from 1; 0 for a whole corpus."""
    return spec.source.fold if isinstance(spec.source, OwnSource) else 0


def whole_name(name: str, spec: CorpusSpec) -> str:
    """The name in the config of the corpus that a fold is of; a whole corpus's own."""
    fold = fold_of(spec)
    return name.removesuffix(f"-fold-{fold}") if fold else name


def _folds(spec: CorpusSpec) -> int:
    whole = isinstance(spec.source, OwnSource) and not spec.source.fold
    return spec.source.folds if whole and isinstance(spec.source, OwnSource) else 0
