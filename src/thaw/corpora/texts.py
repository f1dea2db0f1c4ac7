"""Readers of corpora without audio: the user's text files, sentences of docstrings, WikiText-2.

An id is split-NUMBER, in the order in which the text runs: a language model reads sentences one after the other.
"""

from __future__ import annotations

import ast
import importlib.metadata
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from thaw.config.sources import Split, TextSource, WikiTextSource
from thaw.corpora.listing import ORDER, Listed, Listing, drawn_splits
from thaw.errors import UserError
from thaw.files import read_text
from thaw.randomness import seed_of

Documents = dict[str, list[str]]  # sentences by the name of their document, in order

# Merity's own counts, ends of lines included: salesforce/awd-lstm-lm data.py gives them for the published files.
WIKITEXT_TOKENS: dict[Split, int] = {"train": 2_088_628, "dev": 217_646, "test": 245_569}
WIKITEXT_WORDS = 33_278  # of train, <unk> and the end of a line included
_TITLE = re.compile(r"= [^=].*[^=] =|= [^=] =")  # of an article; sections have more signs

_SENTENCE = re.compile(r"[A-Z][A-Za-z',;() -]*\.")  # nothing that text rules would have to spell out
_WORDS = (4, 40)  # fewest and most in a sentence of a docstring


def read_texts(source: TextSource) -> Listing:
    """The sentences of a text corpus. UserError where a file cannot be read, or a split holds no sentence."""
    if source.splits:
        found = {split: _of_path(Path(source.splits[split]).expanduser()) for split in ORDER if split in source.splits}
    else:
        found = {"train": _of_path(Path(source.path).expanduser()) if source.path else _of_packages(source.packages)}
    if source.documents:
        found = {split: _some(documents, source.documents) for split, documents in found.items()}
    if not source.verbatim:
        found = {split: _with_text(documents) for split, documents in found.items()}
    missing: list[Split] = [split for split in ("test", "dev") if split not in found]
    place = drawn_splits("documents", found["train"], source.held_out, missing)
    splits: dict[Split, Documents] = {split: {} for split in ORDER}
    for split, documents in found.items():
        for name, sentences in documents.items():
            splits[place[name] if split == "train" else split][name] = sentences
    return _listing(splits, source)


def read_wikitext(source: WikiTextSource) -> Listing:
    """WikiText-2 from its folder: every line a sentence, empty ones too; documents are articles.

    UserError where it is not the published corpus (`check_wikitext`).
    """
    folder = Path(source.path).expanduser()
    lines = {split: read_text(folder / f"wiki.{name}.tokens").split("\n") for split, name in WIKITEXT_FILES.items()}
    for split in lines.values():
        if split and not split[-1]:
            split.pop()  # what stands behind the last newline is no line
    if source.published:
        check_wikitext(lines, folder)
    return _listing({split: _articles(rows) for split, rows in lines.items()}, source)


WIKITEXT_FILES: dict[Split, str] = {"train": "train", "dev": "valid", "test": "test"}


def check_wikitext(lines: dict[Split, list[str]], folder: Path) -> None:
    """UserError unless the numbers of words are those of WikiText-2: that of the words, not the raw one, and whole."""
    counts = {split: sum(len(line.split()) + 1 for line in rows) for split, rows in lines.items()}
    words = len({word for line in lines["train"] for word in line.split()}) + 1
    if counts != WIKITEXT_TOKENS or words != WIKITEXT_WORDS:
        found = ", ".join(f"{split} {count:,}" for split, count in counts.items())
        wanted = ", ".join(f"{split} {count:,}" for split, count in WIKITEXT_TOKENS.items())
        raise UserError(
            f"{folder}: not WikiText-2 as published: words and line ends are {found}, vocabulary {words:,}; they "
            f"should be {wanted}, vocabulary {WIKITEXT_WORDS:,} (wikitext-2-v1, not raw); for another text, set "
            "published: false"
        )


def _articles(lines: Iterable[str]) -> Documents:
    """Lines by article: a title begins one."""
    documents: Documents = {}
    name = "0000"
    for line in lines:
        if _TITLE.fullmatch(line.strip()):
            name = f"{len(documents):04d}"
        documents.setdefault(name, []).append(line)
    return documents


# --- files ----------------------------------------------------------------------------------------


def files_of(path: Path) -> list[Path]:
    """The text files that a path stands for: itself, or the *.txt below a folder, by name."""
    return sorted(path.rglob("*.txt")) if path.is_dir() else [path]


def _of_path(path: Path) -> Documents:
    files = files_of(path)
    if not files:
        raise UserError(f"{path}: holds no *.txt")
    base = path if path.is_dir() else path.parent
    return {file.relative_to(base).with_suffix("").as_posix(): read_text(file).splitlines() for file in files}


def _with_text(documents: Documents) -> Documents:
    """Without empty lines, which stand between paragraphs, and without documents of nothing else."""
    kept = {name: [line for line in lines if line.strip()] for name, lines in documents.items()}
    return {name: lines for name, lines in kept.items() if lines}


def _some(documents: Documents, count: int) -> Documents:
    chosen = set(sorted(documents, key=lambda name: (seed_of("documents", name), name))[:count])
    return {name: lines for name, lines in documents.items() if name in chosen}


# --- docstrings -----------------------------------------------------------------------------------


def version_of(package: str) -> str:
    """The version of an installed package; UserError where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"packages: {package} is not installed, so its docstrings cannot be read") from None


def _of_packages(packages: Sequence[str]) -> Documents:
    """Whole plain sentences of the docstrings of packages, by module; a sentence that comes again is left out.

    The packages are those of the lock file (`envs/requirements.txt`), so a corpus is the same on every machine that
    was set up from it; modules are read as text, not run.
    """
    documents: Documents = {}
    seen: set[str] = set()
    for package in packages:
        version_of(package)
        files = importlib.metadata.files(package) or []
        for file in sorted(str(f) for f in files if f.suffix == ".py" and "tests" not in f.parts):
            path = Path(str(importlib.metadata.distribution(package).locate_file(file)))
            fresh = [sentence for sentence in _sentences(path) if sentence not in seen]
            seen.update(fresh)
            if fresh:
                documents[file.removesuffix(".py")] = list(dict.fromkeys(fresh))
    return documents


def _sentences(path: Path) -> Iterator[str]:
    """The sentences of a module's docstrings that are prose: letters and the commonest marks, a full stop."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            for paragraph in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                if ">>>" not in paragraph and "::" not in paragraph and "--" not in paragraph:
                    yield from _prose(" ".join(paragraph.split()))


def _prose(paragraph: str) -> Iterator[str]:
    for sentence in re.split(r"(?<=\.) (?=[A-Z])", paragraph):
        if _SENTENCE.fullmatch(sentence) and _WORDS[0] <= len(sentence.split()) <= _WORDS[1]:
            yield sentence


# --- listing --------------------------------------------------------------------------------------


def _listing(splits: dict[Split, Documents], source: TextSource | WikiTextSource) -> Listing:
    listing = Listing(Path())
    for split in ORDER:
        lines = [(name, line) for name, sentences in splits[split].items() for line in sentences]
        if not any(line.strip() for _, line in lines):
            where = source.path or (source.splits.get(split, "") if isinstance(source, TextSource) else "")
            raise UserError(f"{where or source.kind}: {split} holds no sentence: the text is empty")
        width = len(str(len(lines)))
        listing.utterances += [
            Listed(f"{split}-{number:0{width}d}", split, line, name, "")
            for number, (name, line) in enumerate(lines, start=1)
        ]
    listing.utterances.sort(key=lambda utterance: utterance.id)
    return listing


def is_verbatim(source: TextSource | WikiTextSource) -> bool:
    """Whether lines count as they stand."""
    return source.verbatim if isinstance(source, TextSource) else True
