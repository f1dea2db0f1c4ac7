"""The five studies: one module each, which says what tables and figures the study has. Nothing here trains anything."""

from __future__ import annotations

import importlib

from thaw.errors import UserError
from thaw.exhibits.spec import Exhibit

KINDS = ("freezing", "crosslingual")


def exhibits(kind: str) -> dict[str, Exhibit]:
    """The exhibits of a kind of study by name; UserError for a kind there is not."""
    if kind not in KINDS:
        raise UserError(f"no study of kind {kind!r}; there are: {', '.join(KINDS)}")
    found: dict[str, Exhibit] = importlib.import_module(f"thaw.studies.{kind}").EXHIBITS
    return found
