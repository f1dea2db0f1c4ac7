"""Where a corpus may come from: one class per kind, what a config says under `source:`.

A value equal to its default is dropped before a source is hashed; see `thaw.config.schema`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from thaw.config.numbers import Count, Counts, Int, Levels, Size
from thaw.config.numbers import Fraction as Fraction  # these names are for others too
from thaw.config.numbers import Positive as Positive
from thaw.config.strict import Strict

# Safe in names of files, in LaTeX and as Snakemake's wildcards.
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=100)]
SPLITS = ("train", "dev", "test")
Split = Literal["train", "dev", "test"]


class SplitCounts(Strict):
    """One count per split."""

    train: Positive
    dev: Positive
    test: Positive


class SyntheticSource(Strict):
    """Speech made on the spot with espeak-ng, laid out like a Common Voice release."""

    kind: Literal["synthetic"]
    voice: str  # an espeak-ng language, e.g. "de" or "pt-br"
    locale: str  # the CLDR locale the sentences come from, e.g. "de" or "pt_BR"
    utterances: SplitCounts
    speakers: SplitCounts
    vocabulary: Positive = (
        200  # at most this many different phrases (names of countries, languages, days, months, numbers)
    )
    phrases: Counts = (1, 3)  # fewest and most phrases in a sentence
    snr_db: Levels = (25.0, 40.0)  # signal to noise ratio, drawn per clip
    level_db: Levels = (-26.0, -12.0)  # peak level, dB full scale, drawn per clip
    sample_rate: Literal[22050, 32000, 44100, 48000] = 32000  # of the MP3 files
    seed: Int = 1


class HeldOut(Strict):
    """Shares of what is split (speakers, or sentences of one speaker) that are not trained on."""

    dev: Fraction = 0.1
    test: Fraction = 0.2

    @model_validator(mode="after")
    def _leaves_something(self) -> HeldOut:
        if self.dev + self.test >= 1:
            raise ValueError("dev and test leave nothing to train on")
        return self


class CommonVoiceSource(Strict):
    """A Common Voice release (1 to 25): one that the user has, or one of Mozilla Data Collective."""

    kind: Literal["commonvoice"]
    path: str = ""  # the language's folder (with train.tsv, clips/) or its .tar.gz
    dataset: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$")] = (
        ""  # instead of `path`: an id at Mozilla Data Collective; the key is read from MDC_API_KEY
    )
    sha256: str = ""  # of the archive; checked before it is unpacked
    splits: dict[Split, str] = {"train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv"}
    shards: Size = 16  # jobs that convert it; aim for 500 to 2,000 clips a job

    @model_validator(mode="after")
    def _is_somewhere(self) -> CommonVoiceSource:
        if bool(self.path) == bool(self.dataset):
            raise ValueError("give either path (a folder or an archive) or dataset (an id at Mozilla Data Collective)")
        return self


LibriSpeechSubset = Literal[
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
    "train-clean-5",  # these two: Mini LibriSpeech
    "dev-clean-2",
]


class LibriSpeechSource(Strict):
    """LibriSpeech or Mini LibriSpeech (OpenSLR 12, 31): downloaded, or a folder that the user has."""

    kind: Literal["librispeech"]
    path: str = ""  # the folder LibriSpeech, or the one above it; downloaded where empty
    splits: dict[Split, tuple[LibriSpeechSubset, ...]] = {
        "train": ("train-clean-100",),
        "dev": ("dev-clean",),
        "test": ("test-clean",),
    }
    shards: Size = 16

    @field_validator("splits")
    @classmethod
    def _each_once(cls, value: dict[Split, tuple[str, ...]]) -> dict[Split, tuple[str, ...]]:
        names = [name for subsets in value.values() for name in subsets]
        if doubles := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"given twice: {', '.join(doubles)}")
        return value


class MlsSource(Strict):
    """One language of Multilingual LibriSpeech (OpenSLR 94): downloaded, or a folder that the user has."""

    kind: Literal["mls"]
    language: Literal["dutch", "english", "french", "german", "italian", "polish", "portuguese", "spanish"]
    path: str = ""  # the folder with train/, dev/, test/; downloaded where empty
    format: Literal["opus", "flac"] = "opus"  # of the download; flac is four times as large
    train: Literal["all", "9hr", "1hr", "10hr"] = "all"  # the published small training sets; 10hr is both of them
    shards: Size = 16


class PromptsSource(Strict):
    """Telephone prompts read by one studio speaker, as Debian packages them (asterisk-core-sounds-VOICE)."""

    kind: Literal["prompts"]
    voice: Literal["en", "es", "fr", "it", "ru"]
    path: str = ""  # where the packages are unpacked (holds usr/share) or lie as .deb; apt-get gets them where empty
    held_out: HeldOut = HeldOut()  # shares of the sentences
    second_voice: bool = False  # test is another speaker: the names of numbers, days and months; es, fr, it
    shards: Size = 1

    @model_validator(mode="after")
    def _second_voice_is_there(self) -> PromptsSource:
        if self.second_voice and self.voice in ("en", "ru"):
            raise ValueError(f"second_voice: es, fr and it have one, {self.voice} has none")
        return self


class SwissParliamentSource(Strict):
    """The Swiss Parliaments Corpus, or GermEval 2020 Task 4: FLAC and TSV in a folder that the user has."""

    kind: Literal["swiss-parliament"]
    path: str  # the folder with the tables and clips/
    splits: dict[Split, str] = {"train": "train_all.tsv", "test": "test.tsv"}  # one not named: speakers of train
    min_iou: Fraction = 0.0  # least agreement of audio and text that a row of train or dev must have (iou_estimate)
    held_out: HeldOut = HeldOut(dev=0.05)
    shards: Size = 16


class OwnSource(Strict):
    """What the user's own corpora have in common. Splits that are not given are made: whole speakers of train."""

    path: str = ""  # one file for all splits
    splits: dict[Split, str] = {}  # instead of `path`: which file is which split
    speakers: dict[Literal["dev", "test"], tuple[str, ...]] = {}  # who is in splits that are made
    held_out: HeldOut = HeldOut()  # how many speakers are, where `speakers` does not say
    folds: Annotated[Int, Field(ge=0, le=100)] = 0  # 2 or more: as many corpora, so that each speaker is tested once
    fold: Annotated[Int, Field(ge=0, le=100)] = 0  # which of them this is, from 1; the plan says it (planning/folds.py)
    shards: Size = 4

    @model_validator(mode="after")
    def _is_somewhere(self) -> OwnSource:
        if bool(self.path) == bool(self.splits):
            raise ValueError("give either path (one file) or splits (a file per split)")
        if self.splits and "train" not in self.splits:
            raise ValueError("splits: train is missing")
        if double := sorted(set(self.speakers.get("dev", ())) & set(self.speakers.get("test", ()))):
            raise ValueError(f"speakers: both in dev and test: {', '.join(double)}")
        return self

    @model_validator(mode="after")
    def _folds_make_the_splits(self) -> OwnSource:
        if self.folds == 1 or self.fold > self.folds:
            raise ValueError("folds: give 2 or more (and fold from 1 to folds), or leave them out")
        if self.folds and (self.splits or self.speakers):
            raise ValueError("folds: they make the splits; give one file as `path`, without splits and speakers")
        return self


class ManifestSource(OwnSource):
    """The user's own corpus as a NeMo manifest: JSON Lines with audio_filepath, text and perhaps speaker, split."""

    kind: Literal["manifest"]


class KaldiSource(OwnSource):
    """The user's own corpus as Kaldi data folders (wav.scp, text, perhaps segments, utt2spk): one, or one a split."""

    kind: Literal["kaldi"]
    audio: str = ""  # the folder that relative paths in wav.scp start from; the data folder where empty


class TableColumns(Strict):
    """Names of a table's columns; empty: the table has none."""

    path: Annotated[str, Field(min_length=1)] = "path"
    text: Annotated[str, Field(min_length=1)] = "text"
    speaker: str = "speaker"
    id: str = ""  # where empty, the path without its extension
    split: str = ""


class TableSource(OwnSource):
    """The user's own corpus as TSV or CSV, and audio of any kind that libsndfile reads."""

    kind: Literal["table"]
    audio: str = ""  # the folder that paths in the table start from; the table's own where empty
    columns: TableColumns = TableColumns()
    delimiter: Annotated[str, Field(max_length=1)] = ""  # where empty: "," in a .csv, a tab in any other file
    quotes: bool | None = None  # whether " encloses cells; where not given: not between tabs

    @model_validator(mode="after")
    def _folds_need_no_column(self) -> TableSource:
        if self.folds and self.columns.split:
            raise ValueError("folds: they make the splits; leave columns.split out")
        return self


class TextSource(Strict):
    """Sentences without audio, for language models: the user's text files, or docstrings of installed packages.

    A document is a file; intervals draw whole documents.
    """

    kind: Literal["text"]
    path: str = ""  # a UTF-8 text file with one sentence a line, or a folder of them (*.txt)
    splits: dict[Split, str] = {}  # instead of `path`: which file or folder is which split
    packages: Annotated[tuple[Name, ...], Field(min_length=1)] = ("scipy",)  # where neither is given: whose docstrings
    documents: Count = 0  # at most so many of all, drawn by the hash of their names; 0: all
    held_out: HeldOut = HeldOut()  # shares of the documents, where `splits` does not name them
    verbatim: bool = False  # lines are words between spaces already: no text rules, repeated and empty lines count

    @model_validator(mode="after")
    def _is_somewhere(self) -> TextSource:
        if self.path and self.splits:
            raise ValueError("give path (all splits) or splits (one each), not both")
        if self.splits and "train" not in self.splits:
            raise ValueError("splits: train is missing")
        return self


class WikiTextSource(Strict):
    """WikiText-2 (Merity et al. 2016), the edition of words: a folder with wiki.train.tokens, .valid., .test."""

    kind: Literal["wikitext"]
    path: str
    published: bool = True  # the numbers of words must be those of WikiText-2; false for another corpus of that form


TEXTS = (TextSource, WikiTextSource)  # sources without audio


_Plain = (
    SyntheticSource
    | CommonVoiceSource
    | LibriSpeechSource
    | MlsSource
    | PromptsSource
    | SwissParliamentSource
    | ManifestSource
    | TableSource
    | KaldiSource
    | TextSource
    | WikiTextSource
)
PlainSource = Annotated[_Plain, Field(discriminator="kind")]


class UnionSource(Strict):
    """Several sources of one language as one corpus, split by split."""

    kind: Literal["union"]
    parts: Annotated[dict[Name, PlainSource], Field(min_length=1)]  # the keys begin the ids of their utterances

    @model_validator(mode="after")
    def _parts_have_no_folds(self) -> UnionSource:
        if folded := [name for name, part in self.parts.items() if isinstance(part, OwnSource) and part.folds]:
            raise ValueError(f"parts.{folded[0]}.folds: only a corpus that is whole by itself can be cut into folds")
        return self

    @model_validator(mode="after")
    def _parts_have_audio(self) -> UnionSource:
        if texts := [name for name, part in self.parts.items() if isinstance(part, TEXTS)]:
            raise ValueError(f"parts.{texts[0]}: it has no audio, and a union is of speech")
        return self


Source = Annotated[_Plain | UnionSource, Field(discriminator="kind")]
