"""From a source to a list of utterances: dispatch on its kind, and the three files of the fetch room."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from thaw.canonical import canonical_json, file_sha256
from thaw.config.sources import (
    CommonVoiceSource,
    KaldiSource,
    LibriSpeechSource,
    ManifestSource,
    MlsSource,
    PlainSource,
    PromptsSource,
    Source,
    SwissParliamentSource,
    SyntheticSource,
    TableSource,
    TextSource,
    UnionSource,
    WikiTextSource,
)
from thaw.corpora import (
    clips,
    commonvoice,
    datacollective,
    kaldi,
    librispeech,
    nemo,
    prompts,
    swiss_parliament,
    table,
    texts,
)
from thaw.corpora.archives import COMPLETE, CONTENT, unpack
from thaw.corpora.listing import Listing
from thaw.corpora.ownership import claim
from thaw.corpora.userfiles import has_own_clips, tables
from thaw.errors import UserError
from thaw.files import write_json, write_jsonl, write_rejects


def read_source(source_json: str) -> Source:
    """A corpus entry's `source`, from JSON; UserError says what is wrong with it."""
    try:
        source: Source = TypeAdapter(Source).validate_json(source_json)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "source"
        raise UserError(f"--source: {place}: {first['msg']}") from error
    return source


def fetch(
    source: Source,
    language: str,
    root: Path,
    utterances: Path,
    rejects: Path,
    record: Path,
    mirror: str = "",
    processes: int = 0,
) -> None:
    """Get the corpus that `source` describes into `root`, and write its list, its rejects and a record.

    `mirror`: a folder, or what addresses start with, where archives are looked for before the web.
    `processes` synthesise; 0: as many as there are usable cores.
    Raises UserError for whatever the user can mend: the source, a missing or broken corpus, a foreign `root`.
    """
    if isinstance(source, UnionSource):
        listing = _union(source, language, root, mirror, processes)
    else:
        listing = _get(source, language, root, mirror, processes)
    write_rejects(rejects, listing.rejects)
    if not listing.utterances:
        raise UserError(f"{source.kind} corpus: none of its {len(listing.rejects)} rows can be used; see {rejects}")
    if has_own_clips(source):
        listing.utterances = clips.stamped(listing, utterances.with_name(clips.STAMPS), processes)
    rows = (_row(listing, index, language) for index in range(len(listing.utterances)))
    if isinstance(source, TextSource | WikiTextSource):
        verbatim = {"verbatim": True} if texts.is_verbatim(source) else {}
        rows = ({key: value for key, value in row.items() if key != "path"} | verbatim for row in rows)
    write_jsonl(utterances, rows)
    write_json(record, _record(source, listing, language))


def _get(source: PlainSource, language: str, root: Path, mirror: str, processes: int) -> Listing:
    """Read one source; nothing but the synthesiser needs espeak-ng, so it is imported where it is used."""
    match source:
        case SyntheticSource():
            from thaw.corpora.synthetic import TABLES, synthesise

            synthesise(source, root, processes)
            return commonvoice.read(root, TABLES)
        case CommonVoiceSource():
            return commonvoice.read(_release(source, language, root, mirror), source.splits)
        case LibriSpeechSource():
            return librispeech.read_librispeech(source, root, mirror)
        case MlsSource():
            return librispeech.read_mls(source, root, mirror)
        case PromptsSource():
            return prompts.read(source, root)
        case SwissParliamentSource():
            return swiss_parliament.read(source)
        case ManifestSource():
            return nemo.read(source)
        case TableSource():
            return table.read(source)
        case KaldiSource():
            return kaldi.read(source)
        case TextSource():
            return texts.read_texts(source)
        case WikiTextSource():
            return texts.read_wikitext(source)


def _release(source: CommonVoiceSource, language: str, root: Path, mirror: str) -> Path:
    """The folder of the language in a release: the user's, or one that is downloaded and unpacked."""
    if source.dataset:
        archive = root / f"{source.dataset}.tar.gz"
        claim(root, {"kind": "commonvoice", "dataset": source.dataset, "sha256": source.sha256})
        folder = root / "release"
        if not (folder / COMPLETE).exists():
            unpack(datacollective.fetch_archive(source.dataset, archive, sha256=source.sha256, mirror=mirror), folder)
            archive.unlink()  # as large again as what is in it
        return commonvoice.find_release(folder / CONTENT, language)
    path = Path(source.path).expanduser()
    if not path.is_dir():
        return commonvoice.find_release(unpack(path, root, source.sha256), language)
    if source.sha256:
        raise UserError(f"{path} is a folder, and `sha256` is of an archive; leave one of them out")
    return commonvoice.find_release(path, language)


def _union(source: UnionSource, language: str, root: Path, mirror: str, processes: int) -> Listing:
    """The parts as one listing, each in its own folder, its name before its ids and speakers."""
    claim(root, {"kind": "union"})
    whole = Listing(Path())
    for name, part in source.parts.items():
        listing = _get(part, language, root / name, mirror, processes)
        whole.rejects += [replace(reject, id=f"{name}/{reject.id}") for reject in listing.rejects]
        whole.utterances += [
            replace(u, id=f"{name}/{u.id}", speaker=f"{name}/{u.speaker}", file=str(listing.clips / u.file))
            for u in listing.utterances
        ]
    whole.utterances.sort(key=lambda utterance: utterance.id)
    return whole


def _row(listing: Listing, index: int, language: str) -> dict[str, Any]:
    utterance = listing.utterances[index]
    row: dict[str, Any] = {
        "id": utterance.id,
        "path": str(listing.clips / utterance.file),
        "text_raw": utterance.text,
        "speaker": utterance.speaker,
        "split": utterance.split,
        "lang": language,
    }
    row |= {"digest": utterance.digest} if utterance.digest else {}
    row |= {"start": utterance.start, "end": utterance.end} if utterance.end >= 0 else {}
    return row | ({"channel": utterance.channel} if utterance.channel else {})


def _record(source: Source, listing: Listing, language: str) -> dict[str, Any]:
    """What was fetched, in numbers; nothing of when or how fast, so that the same corpus gives the same record."""
    listed = hashlib.sha256()
    for utterance in listing.utterances:
        row = [utterance.id, utterance.split, utterance.bytes, utterance.speaker, utterance.text]
        row += [utterance.digest] if utterance.digest else []
        row += [utterance.start, utterance.end] if utterance.end >= 0 else []
        row += [utterance.channel] if utterance.channel else []
        listed.update(canonical_json(row).encode() + b"\n")
    own = {str(path): file_sha256(path) for path in tables(source, language)}
    return {
        "kind": source.kind,
        "source": source.model_dump(mode="json", exclude={"shards": True, "parts": {"__all__": {"shards"}}}),
        "files": len(listing.utterances),
        "bytes": sum(utterance.bytes for utterance in listing.utterances),
        "sha256": listed.hexdigest(),  # of the listing: ids, splits, sizes, speakers, texts, digests
        "splits": dict(Counter(utterance.split for utterance in listing.utterances)),
        "rejected": dict(Counter(reject.reason for reject in listing.rejects)),
        **({"tables": own} if own else {}),
    }
