"""A corpus folder belongs to one recipe: a killed fetch goes on in it, another recipe starts over in it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from thaw.errors import UserError
from thaw.files import read_json, write_json

RECORD = "fetch.json"  # in the folder; says which recipe made what lies there


def claim(root: Path, recipe: dict[str, Any]) -> None:
    """Make `root` the folder of `recipe` (plain JSON types).

    What the same recipe left there stays; what another recipe of `thaw fetch` left there is removed. A folder with
    files and without a record is someone else's: UserError, and nothing is touched.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        found = [path for path in root.iterdir() if path.name != RECORD and not path.name.startswith(".")]
    except OSError as error:
        raise UserError(f"cannot use {root} as the folder of a corpus: {error.strerror}") from error
    record = root / RECORD
    if record.exists():
        if read_json(record) == recipe:
            return
        # The record goes last: a process killed here meets the old record again, and removes the rest.
        for path in found:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    elif found:
        raise UserError(f"{root} holds files that thaw did not fetch ({found[0].name}); give an empty folder")
    write_json(record, recipe, sealed=False)
