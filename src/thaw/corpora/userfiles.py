"""Which files of a source are the user's own, that they may edit: the tables behind a corpus. Clips are not among them.

What others publish (an archive with a checksum, LibriSpeech, MLS, prompts, Data Collective) is known by its name.
"""

from __future__ import annotations

from pathlib import Path

from thaw.config.sources import (
    CommonVoiceSource,
    KaldiSource,
    OwnSource,
    Source,
    SwissParliamentSource,
    TextSource,
    UnionSource,
    WikiTextSource,
)
from thaw.corpora import commonvoice, kaldi
from thaw.corpora.table import own_files
from thaw.corpora.texts import WIKITEXT_FILES, files_of
from thaw.errors import UserError


def tables(source: Source, language: str) -> list[Path]:
    """The user's own tables behind a source, in a fixed order, whether or not they are there."""
    match source:
        case KaldiSource():
            return [path for _, folder in own_files(source) for path in kaldi.files(folder)]
        case OwnSource():
            return [path for _, path in own_files(source)]
        case CommonVoiceSource() if source.path and (folder := Path(source.path).expanduser()).is_dir():
            try:
                release = commonvoice.find_release(folder, language)
            except UserError:  # it will be said where the corpus is listed
                return []
            return [release / name for _, name in sorted(source.splits.items())]
        case SwissParliamentSource():
            return [Path(source.path).expanduser() / name for _, name in sorted(source.splits.items())]
        case TextSource():
            named = [source.path] if source.path else [source.splits[split] for split in sorted(source.splits)]
            return [file for name in named for file in files_of(Path(name).expanduser())]
        case WikiTextSource():
            return [Path(source.path).expanduser() / f"wiki.{name}.tokens" for name in WIKITEXT_FILES.values()]
        case UnionSource():
            return [path for part in source.parts.values() for path in tables(part, language)]
        case _:
            return []


def archives(source: Source) -> list[Path]:
    """The user's own archives that no checksum of the config is of: large, so their two ends stand for them."""
    if isinstance(source, UnionSource):
        return [path for part in source.parts.values() for path in archives(part)]
    if isinstance(source, CommonVoiceSource) and source.path and not source.sha256:
        path = Path(source.path).expanduser()
        return [path] if path.is_file() else []
    return []


def has_own_clips(source: Source) -> bool:
    """Whether the clips lie in a folder of the user's, where any of them may be replaced."""
    if isinstance(source, UnionSource):
        return any(has_own_clips(part) for part in source.parts.values())
    if isinstance(source, CommonVoiceSource):
        return bool(source.path) and Path(source.path).expanduser().is_dir()
    return isinstance(source, OwnSource | SwissParliamentSource)
