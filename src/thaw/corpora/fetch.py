"""From a source to a list of utterances: dispatch on its kind, and the three files of the fetch room."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from thaw.canonical import canonical_json
from thaw.config.schema import CommonVoiceSource, Source, SyntheticSource
from thaw.corpora.archives import unpack
from thaw.corpora.commonvoice import Listing, find_release, read
from thaw.errors import UserError
from thaw.files import write_json, write_jsonl, write_rejects


def fetch(source_json: str, language: str, root: Path, utterances: Path, rejects: Path, record: Path) -> None:
    """Get the corpus that `source_json` describes into `root`, and write its list, its rejects and a record.

    Raises UserError for whatever the user can mend: the source, a missing or broken corpus, a foreign `root`.
    """
    try:
        source: Source = TypeAdapter(Source).validate_json(source_json)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "source"
        raise UserError(f"--source: {place}: {first['msg']}") from error
    listing = _get(source, language, root)
    write_rejects(rejects, listing.rejects)
    if not listing.utterances:
        raise UserError(f"{listing.clips.parent}: none of its {len(listing.rejects)} rows can be used; see {rejects}")
    write_jsonl(utterances, (_row(listing, index, language) for index in range(len(listing.utterances))))
    write_json(record, _record(source, listing))


def _get(source: SyntheticSource | CommonVoiceSource, language: str, root: Path) -> Listing:
    if isinstance(source, SyntheticSource):
        from thaw.corpora.synthetic import TABLES, synthesise  # loads espeak-ng, which real corpora do without

        synthesise(source, root)
        return read(root, TABLES)
    path = Path(source.path).expanduser()
    if path.is_dir():
        if source.sha256:
            raise UserError(f"{path} is a folder, and `sha256` is of an archive; leave one of them out")
        return read(find_release(path, language), source.splits)
    return read(find_release(unpack(path, root, source.sha256), language), source.splits)


def _row(listing: Listing, index: int, language: str) -> dict[str, Any]:
    utterance = listing.utterances[index]
    return {
        "id": utterance.id,
        "path": str(listing.clips / utterance.file),
        "text_raw": utterance.text,
        "speaker": utterance.speaker,
        "split": utterance.split,
        "lang": language,
    }


def _record(source: SyntheticSource | CommonVoiceSource, listing: Listing) -> dict[str, Any]:
    """What was fetched, in numbers; nothing of when or how fast, so that the same corpus gives the same record."""
    listed = hashlib.sha256()
    for utterance in listing.utterances:
        row = [utterance.id, utterance.split, utterance.bytes, utterance.speaker, utterance.text]
        listed.update(canonical_json(row).encode() + b"\n")
    return {
        "kind": source.kind,
        "source": source.model_dump(mode="json"),
        "files": len(listing.utterances),
        "bytes": sum(utterance.bytes for utterance in listing.utterances),
        "sha256": listed.hexdigest(),  # of the listing: ids, splits, sizes, speakers and texts
        "splits": dict(Counter(utterance.split for utterance in listing.utterances)),
        "rejected": dict(Counter(reject.reason for reject in listing.rejects)),
    }
