"""The studies: one module each, which owns all that is peculiar to one paper.

A module of this package is a kind of study, found by its name; there is no list to add it to. It has

    Spec(StudySpec)          what a config may say, with `kind: Literal[<the module's name>]`
    check(name, spec, config)    one line for each mistake that the schema cannot see
    plan(name, spec, config)     the study's runs, decodes and probes
    EXHIBITS                 its tables and figures by name; CREDIT: whom to cite

It is imported while the workflow is parsed, so what draws is imported when an exhibit is drawn.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import TYPE_CHECKING

from thaw.errors import UserError, suggestion

if TYPE_CHECKING:
    from thaw.config.schema import StudySpec

KINDS = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
TOGETHER = "all"  # the folder of what is drawn from all studies together


def study_module(kind: str) -> ModuleType:
    """The module of a kind of study; UserError for a kind there is not."""
    if kind not in KINDS:
        raise UserError(f"no study of kind {kind!r}; {suggestion(kind, KINDS)}")
    return importlib.import_module(f"thaw.studies.{kind}")


def specs() -> tuple[type[StudySpec], ...]:
    """What a config may say of each kind of study."""
    return tuple(study_module(kind).Spec for kind in KINDS)
