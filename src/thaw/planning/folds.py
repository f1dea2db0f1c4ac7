"""Corpora in folds: one corpus stands for as many as it has folds, and each of its speakers is tested once.

`mine` with `folds: 5` becomes the corpora `mine-fold-1` to `mine-fold-5`, each with its own train, dev and test
(`corpora/listing.py: fold_splits`). A study on `mine` trains on each of them; its exhibits take their tests together.
"""

from __future__ import annotations

from collections.abc import Mapping

from thaw.config.schema import Config, CorpusSpec, StudySpec
from thaw.config.sources import OwnSource
from thaw.errors import UserError


def expanded(config: Config) -> Config:
    """The config with every corpus that has folds, and every target that is one, replaced by its folds.

    Raises UserError where a fold's name is another corpus's, and where a study's source has folds: it is trained once.
    """
    names = {name: folded(name, spec) for name, spec in config.corpora.items() if _folds(spec)}
    if not names:
        return config
    for name, folds in names.items():
        if taken := [fold for fold in folds if fold in config.corpora]:
            raise UserError(f"config: corpora.{taken[0]}: a fold of {name!r} has that name; call it otherwise")
    corpora = {name: spec for name, spec in config.corpora.items() if name not in names}
    corpora |= {fold: spec for folds in names.values() for fold, spec in folds.items()}
    studies = {name: _study(name, spec, names) for name, spec in config.studies.items()}
    return config.model_copy(update={"corpora": corpora, "studies": studies})


def folded(name: str, spec: CorpusSpec) -> dict[str, CorpusSpec]:
    """The folds of a corpus, by name; the corpus itself where it has none."""
    if not _folds(spec):
        return {name: spec}
    return {
        f"{name}-fold-{fold}": spec.model_copy(update={"source": spec.source.model_copy(update={"fold": fold})})
        for fold in range(1, _folds(spec) + 1)
    }


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


def _study(name: str, spec: StudySpec, folds: Mapping[str, Mapping[str, CorpusSpec]]) -> StudySpec:
    if spec.source.corpus in folds:
        raise UserError(
            f"config: studies.{name}.source.corpus: {spec.source.corpus!r} has folds, and a source is trained once; "
            "name a corpus without (the same file may be in two)"
        )
    targets = tuple(fold for target in spec.targets for fold in folds.get(target, {target: None}))
    recipes = {fold: one for target, one in spec.target_recipes.items() for fold in folds.get(target, {target: None})}
    return spec.model_copy(update={"targets": targets, "target_recipes": recipes})
