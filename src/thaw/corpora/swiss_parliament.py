"""Reader of the Swiss Parliaments Corpus and of GermEval 2020 Task 4 (Plüss et al.): FLAC, and tables with a header.

The tables are tab-separated with client_id, path and sentence (Standard German), as in Common Voice; some also have
iou_estimate, how well the aligned audio and text agree. No table is a dev split: whole speakers of train make one.
"""

from __future__ import annotations

from pathlib import Path

from thaw.config.sources import SwissParliamentSource
from thaw.corpora.listing import ORDER, Listing
from thaw.corpora.table import Format, read_table
from thaw.errors import UserError

COLUMNS = {"path": "path", "text": "sentence", "speaker": "client_id"}
IOU = "iou_estimate"
CLIPS = "clips"  # where there is no such folder, clips lie beside the tables


def read(source: SwissParliamentSource) -> Listing:
    """List the corpus; ids are the paths of clips without extension.

    Rejected: "malformed row", "iou_estimate too low" (not in test), "missing clip", "duplicate id".
    Raises UserError for a missing folder, table or column.
    """
    folder = Path(source.path).expanduser()
    missing = [name for name in source.splits.values() if not (folder / name).is_file()]
    if missing:
        found = ", ".join(sorted(path.name for path in folder.glob("*.tsv"))) or "no .tsv"
        raise UserError(f"{folder} has no {', '.join(missing)} (it has {found}); name its tables under `splits`")
    audio = folder / CLIPS if (folder / CLIPS).is_dir() else folder
    listing = Listing(Path())
    for split in (split for split in ORDER if split in source.splits):
        least = (IOU, source.min_iou) if source.min_iou and split != "test" else None
        listing.add(read_table(folder / source.splits[split], split, Format(COLUMNS, "\t", False, least), audio))
    listing.make_splits(source.splits, source.held_out)
    return listing
