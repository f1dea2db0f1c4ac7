"""The language model: KenLM n-grams of the training text, free of every sentence that is tested on, and its lexicon.

lmplz estimates an ARPA model (modified Kneser-Ney), build_binary packs it into a trie, query measures it. All three
give the same bytes for the same text, whatever the memory they are granted.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaw.canonical import file_sha256
from thaw.config.decoders import LanguageModelSpec
from thaw.config.schema import TextSpec
from thaw.errors import UserError
from thaw.files import read_jsonl, read_text, replacing, write_text
from thaw.text.normalise import normalise
from thaw.units.characters import OutsideAlphabet

TOOLS = ("lmplz", "build_binary", "query")
SORTING_MEMORY = "512M"  # lmplz spills to disk beyond it
SPACE = "|"  # how the lexicon spells the end of a word
RESERVED = {"<s>", "</s>", "<unk>"}  # KenLM's own symbols


@dataclass(frozen=True)
class Text:
    """The sentences a language model is made of, in order, and what was left out of them."""

    sentences: list[str]
    excluded: int  # occur in dev or test
    outside: int  # hold characters outside the alphabet (extra text only)

    def vocabulary(self) -> list[str]:
        """The different words, sorted."""
        return sorted({word for sentence in self.sentences for word in sentence.split()})


def tool(name: str) -> str:
    """Path of one of KenLM's programs: from PATH, else from build/kenlm/bin of this checkout; UserError if absent."""
    built = Path(__file__).resolve().parents[3] / "build" / "kenlm" / "bin"
    found = shutil.which(name) or shutil.which(name, path=str(built))
    if found is None:
        raise UserError(f"KenLM's {name} is neither in PATH nor in {built}: run `make setup`")
    return found


def sentences_of(manifest: Path) -> list[str]:
    """The texts of a manifest's utterances, in its order."""
    try:
        return [row["text"] for row in read_jsonl(manifest)]
    except (KeyError, TypeError) as error:
        raise UserError(f"{manifest}: a row lacks `text`; is it a manifest?") from error


def read_extra(path: Path, rules: TextSpec) -> tuple[list[str], int]:
    """Sentences of a text file, one a line, by the rules of the transcripts, and how many lines these reject."""
    kept, outside = [], 0
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                try:
                    sentence = normalise(line, rules)
                except OutsideAlphabet:
                    outside += 1
                    continue
                if sentence:
                    kept.append(sentence)
    except OSError as error:
        raise UserError(f"language model's extra_text {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"language model's extra_text {path}: not UTF-8 ({error.reason})") from error
    return kept, outside


def gather(train: Iterable[Path], exclude: Iterable[Path], extra: str, rules: TextSpec) -> Text:
    """All sentences of the training manifests and the extra text, less every one that an excluded manifest holds.

    Raises UserError where nothing is left.
    """
    tested = {sentence for manifest in exclude for sentence in sentences_of(manifest)}
    candidates = [sentence for manifest in train for sentence in sentences_of(manifest)]
    outside = 0
    if extra:
        more, outside = read_extra(Path(extra), rules)
        candidates += more
    kept = [sentence for sentence in candidates if sentence and sentence not in tested]
    if not kept:
        raise UserError(
            "no text for the language model: every training sentence also occurs in dev or test; "
            "give the corpus more sentences, or the language model an extra_text"
        )
    return Text(kept, len(candidates) - len(kept), outside)


def lexicon_line(word: str) -> str:
    """`word` spelt for the decoder: word, tab, its characters and the word end, apart by spaces."""
    return f"{word}\t{' '.join(word)} {SPACE}"


def read_lexicon(path: Path) -> dict[str, list[str]]:
    """Words of a lexicon file and their characters (word end left out); UserError names a broken line."""
    words = {}
    lines = read_text(path).splitlines()
    for number, line in enumerate(lines, start=1):
        word, tab, spelling = line.partition("\t")
        letters = spelling.split(" ")
        if not (word and tab and len(letters) > 1 and letters[-1] == SPACE and all(len(c) == 1 for c in letters)):
            raise UserError(f"{path}:{number}: not a lexicon line (word, tab, its characters and {SPACE})")
        words[word] = letters[:-1]
    if not words:
        raise UserError(f"{path}: the lexicon is empty")
    return words


def estimate_arpa(sentences: Iterable[str], spec: LanguageModelSpec, scratch: Path) -> Path:
    """Sentences -> ARPA file, in the folder `scratch`. UserError repeats lmplz's own last line where it refuses."""
    text, arpa = scratch / "text", scratch / "lm.arpa"
    text.write_text("".join(f"{sentence}\n" for sentence in sentences), encoding="utf-8")
    command = [tool("lmplz"), "--order", str(spec.order), "--memory", SORTING_MEMORY, "--temp_prefix", f"{scratch}/"]
    if spec.prune:
        command += ["--prune", *map(str, spec.prune)]
    if spec.discount_fallback:
        command += ["--discount_fallback"]
    _call([*command, "--text", str(text), "--arpa", str(arpa)])
    return arpa


def pack(arpa: Path, binary: Path, scratch: Path) -> None:
    """ARPA file -> KenLM trie."""
    _call([tool("build_binary"), "-T", f"{scratch}/", "trie", str(arpa), str(binary)])


def measure(model: Path, sentences: Sequence[str]) -> dict[str, Any]:
    """Perplexity (words and sentence ends, unknown words left out) and share of unknown words of sentences.

    `model` is a binary or an ARPA file.
    """
    output = _call([tool("query"), "-v", "summary", str(model)], "\n".join(sentences) + "\n")
    found = dict(re.findall(r"^(Perplexity excluding OOVs|OOVs):\s*(\S+)$", output, re.MULTILINE))
    words = sum(len(sentence.split()) for sentence in sentences)
    unknown = int(found["OOVs"])
    perplexity = float(found["Perplexity excluding OOVs"])
    return {
        "sentences": len(sentences),
        "words": words,
        "oov": unknown,
        "oov_rate": unknown / words if words else 0.0,
        "perplexity": round(perplexity, 6) if perplexity == perplexity else None,  # NaN where there is no word
    }


def _call(command: list[str], stdin: str = "") -> str:
    """Run a program of KenLM's; UserError with the last line it printed where it fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip() not in ("", "ERROR")]
        said = lines[-1] if lines else f"exit status {done.returncode}"
        raise UserError(f"{Path(command[0]).name} could not make the language model: {said}")
    return done.stdout


def make(
    spec: LanguageModelSpec,
    rules: TextSpec,
    train: Sequence[Path],
    exclude: Sequence[Path],
    binary: Path,
    lexicon: Path,
) -> dict[str, Any]:
    """Write binary and lexicon; return the record: sizes, what was left out, perplexity on the excluded text."""
    alphabet = rules.alphabet
    if SPACE in alphabet:
        raise UserError(f"the alphabet holds {SPACE!r}, which lexicons use for the end of a word: leave it out")
    text = gather(train, exclude, spec.extra_text, rules)
    vocabulary = text.vocabulary()
    foreign = [word for word in vocabulary if not set(alphabet).issuperset(word) or word in RESERVED]
    if foreign:
        raise UserError(
            f"training text holds words that the alphabet cannot spell, e.g. {foreign[0]!r}: wrong alphabet?"
        )
    with tempfile.TemporaryDirectory(prefix="thaw-lm-") as folder, replacing(binary) as temporary:
        scratch = Path(folder)
        pack(estimate_arpa(text.sentences, spec, scratch), temporary, scratch)
    write_text(lexicon, "".join(f"{lexicon_line(word)}\n" for word in vocabulary))
    return {
        "language_model": spec.model_dump(mode="json"),
        "order": spec.order,
        "sentences": len(text.sentences),
        "distinct_sentences": len(set(text.sentences)),
        "words": sum(len(sentence.split()) for sentence in text.sentences),
        "vocabulary": len(vocabulary),
        "excluded_sentences": text.excluded,
        "outside_alphabet": text.outside,
        "tested_on": {manifest.stem: measure(binary, sentences_of(manifest)) for manifest in exclude},
        "sha256": file_sha256(binary),
    }
