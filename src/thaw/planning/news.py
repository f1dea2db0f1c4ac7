"""What became of the user's own files since a corpus was listed: for `thaw why`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from thaw.corpora.clips import STAMPS, replaced
from thaw.files import json_object
from thaw.planning import layout
from thaw.planning.contents import of_file
from thaw.planning.corpora import Corpus

SHOWN = 6


def corpus_news(corpus: Corpus) -> Iterator[str]:
    """Tables with other contents than when the corpus was listed last, and clips that were replaced since; in lines.

    Clips are looked through by size and times, so this takes seconds for a hundred thousand of them.
    """
    listing = Path(layout.utterances(corpus))
    if not listing.exists():
        yield from _table_news(corpus, listing)
        return
    found = list(replaced(listing.with_name(STAMPS)))
    if found:
        yield f"its corpus {corpus.source_id} is not as it was listed:"
        yield from (f"  {line}" for line in found[:SHOWN])
        if len(found) > SHOWN:
            yield f"  ... and {len(found) - SHOWN} more"
        yield f"  `snakemake -R {listing}`, with the options that you run it with, lists it again"


def _table_news(corpus: Corpus, listing: Path) -> Iterator[str]:
    """The tables that make this corpus another one than that of the same name which was listed last."""
    earlier = [path for path in Path(layout.CORPORA).glob(f"{corpus.name}-*/source.json") if _is_other(path, corpus)]
    if not earlier:
        return
    latest = max(earlier, key=lambda path: (path.stat().st_mtime_ns, path))
    tables = json_object(latest).get("tables", {})
    changed = [path for path, held in tables.items() if of_file(path) != held] if isinstance(tables, dict) else []
    if changed:
        yield f"its corpus differs from {latest.parent.name} in the contents of"
        yield from (f"  {path}" for path in changed[:SHOWN])


def _is_other(path: Path, corpus: Corpus) -> bool:
    """Whether it is of the same name with another hash: `german-…`, not `german-swiss-…`."""
    folder = path.parent.name
    return folder != corpus.source_id and folder.rpartition("-")[0] == corpus.name
