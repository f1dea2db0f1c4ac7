"""A corpus made on the spot with espeak-ng, laid out like a Common Voice release: clips/*.mp3 and a TSV per split.

Every clip is a function of the corpus' description and the clip's own place in it: not of the number of processes, nor
of what was made before. So an interrupted synthesis goes on where it stopped and ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from thaw.config.schema import Split, SyntheticSource
from thaw.corpora.commonvoice import CLIPS
from thaw.corpora.ownership import claim
from thaw.corpora.phrases import find_locale, sentences, vocabulary
from thaw.corpora.speakers import Speaker, speakers
from thaw.corpora.studio import Clip, Studio, make
from thaw.corpora.voices import find_voice
from thaw.files import write_text
from thaw.randomness import seed_of

SYNTHESIS_VERSION = 1  # raise it when the same description gives other clips
LIBRARIES = ("babel", "espeakng-loader", "num2words", "numpy", "soundfile", "soxr")  # other releases, other bytes
TABLES: dict[Split, str] = {"train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv"}
COLUMNS = (  # of a Common Voice release since 17.0
    *("client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes"),
    *("age", "gender", "accents", "variant", "locale", "segment"),
)


@dataclass(frozen=True)
class Row:
    """One clip and what the tables say of it."""

    split: Split
    speaker: Speaker
    clip: Clip


def synthesise(source: SyntheticSource, root: Path, processes: int = 0) -> None:
    """Make the corpus in `root`; what an earlier, interrupted call left there is kept.

    `processes`: 0 for one per usable core. Raises UserError for an unknown voice or locale, for more sentences than
    the vocabulary allows, and where `root` cannot be used.
    """
    voice = find_voice(source.voice)
    rows = plan(source)
    recipe = {
        "kind": "synthetic",
        "source": source.model_dump(mode="json"),
        "version": SYNTHESIS_VERSION,
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    claim(root, recipe)
    studio = Studio(voice, source.sample_rate, source.snr_db, source.level_db, root / CLIPS)
    make(studio, [row.clip for row in rows], processes or _cores())
    for split, table in TABLES.items():
        _write_table(root / table, [row for row in rows if row.split == split], _tag(source.locale))


def _cores() -> int:
    """Cores that this process may use; a cluster often lends fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plan(source: SyntheticSource) -> list[Row]:
    """All rows of a corpus, in the order of their names. A larger corpus begins every split with a smaller one's."""
    locale = _tag(source.locale)
    seed = seed_of(source.seed, "text", locale)
    phrases = vocabulary(locale, source.vocabulary, seed)
    rows = []
    for number, split in enumerate(TABLES, start=1):
        count = getattr(source.utterances, split)
        people = speakers(source.voice, split, getattr(source.speakers, split), source.seed)
        for index, sentence in enumerate(sentences(phrases, split, count, source.phrases, seed)):
            name = f"common_voice_{locale}_{number}{index:07d}"
            place = seed_of(source.seed, "clip", source.voice, split, index)
            speaker = people[index % len(people)]
            rows.append(Row(split, speaker, Clip(name, sentence, speaker.manner, place)))
    return rows


def _write_table(path: Path, rows: list[Row], locale: str) -> None:
    lines = ("\t".join(_cells(row, locale)[column] for column in COLUMNS) for row in rows)
    write_text(path, "\n".join(["\t".join(COLUMNS), *lines]) + "\n", sealed=False)


def _cells(row: Row, locale: str) -> dict[str, str]:
    return dict.fromkeys(COLUMNS, "") | {
        "client_id": row.speaker.client_id,
        "path": f"{row.clip.name}.mp3",
        "sentence_id": hashlib.sha256(row.clip.sentence.encode()).hexdigest(),
        "sentence": row.clip.sentence,
        "up_votes": "2",
        "down_votes": "0",
        "age": row.speaker.age,
        "gender": row.speaker.gender,
        "locale": locale,
    }


def _tag(locale: str) -> str:
    """A locale as Common Voice writes it: "pt-BR"."""
    return str(find_locale(locale)).replace("_", "-")
