"""The alignment of whole manifests by a finished model, piece by piece: pieces that are there are not made again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from thaw.alignment.acoustic import AcousticModel, load
from thaw.alignment.bootstrap import usable
from thaw.alignment.fsts import lexicon_fst, symbols
from thaw.alignment.lexicon import Lexicon, read_lexicon
from thaw.alignment.mfcc import cepstra, with_deltas
from thaw.alignment.states import Aligned
from thaw.alignment.viterbi import Graphs, align, runs
from thaw.canonical import digest, file_sha256
from thaw.corpora.manifest import Utterance, manifest_sha256, read_manifest
from thaw.errors import UserError
from thaw.files import Reject, read_jsonl, write_jsonl

PIECE = 256  # utterances
Row = dict[str, Any]


@dataclass(frozen=True)
class Pieces:
    """A manifest as it was aligned: files of pieces, in its order, and what could not be aligned."""

    paths: tuple[Path, ...]
    rejects: tuple[Reject, ...]

    def rows(self) -> Iterator[tuple[str, Aligned]]:
        """The utterances that have a path, one piece at a time in memory."""
        for path in self.paths:
            for row in read_jsonl(path):
                if row["states"] is not None:
                    yield row["id"], Aligned(_runs(row["states"]), _runs(row["phones"]))


def _runs(plain: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((number, length) for number, length in plain)


def align_manifest(manifest: Path, split: str, model: Path, lexicon: Path, state: Path, processes: int = 1) -> Pieces:
    """The paths of a manifest's utterances by the model in a file, and those that have none, with reasons.

    Pieces are kept in `state`; one of another model, lexicon or manifest is never taken.
    """
    kept, rejects = usable(read_manifest(manifest), read_lexicon(lexicon), split)
    of = digest([manifest_sha256(manifest), file_sha256(model), file_sha256(lexicon)])
    pieces = [kept[begin : begin + PIECE] for begin in range(0, len(kept), PIECE)]
    paths = [state / f"{split}-{of}-{number}.jsonl" for number in range(len(pieces))]
    todo = [(piece, path) for piece, path in zip(pieces, paths, strict=True) if not _is_whole(path)]
    for (_, path), found in zip(todo, _made(model, lexicon, [piece for piece, _ in todo], processes), strict=True):
        write_jsonl(path, found)
    detail = "no way through its words within the beam: is the text what is said?"
    for path in paths:
        failed = [row["id"] for row in read_jsonl(path) if row["states"] is None]
        rejects += [Reject(id, split, "align", "no alignment", detail) for id in failed]
    return Pieces(tuple(paths), tuple(rejects))


def _is_whole(path: Path) -> bool:
    try:
        return path.is_file() and bool(read_jsonl(path))
    except UserError:
        return False  # damaged: it is made again


def _made(model: Path, lexicon: Path, pieces: Sequence[list[Utterance]], processes: int) -> Iterator[list[Row]]:
    """Of each piece, for every utterance its id, and its runs of states and phones, or None for both."""
    if processes <= 1 or len(pieces) <= 1:
        yield from (_align_piece(model, lexicon, piece) for piece in pieces)
        return
    with ProcessPoolExecutor(min(processes, len(pieces)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_align_piece, [model] * len(pieces), [lexicon] * len(pieces), pieces)


def _align_piece(model_path: Path, lexicon_path: Path, piece: list[Utterance]) -> list[Row]:
    model, lexicon = _loaded(model_path, lexicon_path)
    # Only the words of this piece: a graph is made through the whole lexicon, which may be large.
    words = {word for each in piece for word in each.text.split()}
    cut = Lexicon({word: said for word, said in lexicon.words.items() if word in words})
    numbers = symbols(model.phones[1:], cut)
    graphs = Graphs(model.hmm, lexicon_fst(cut, numbers))
    found: list[Row] = []
    for utterance in piece:
        graph = graphs.compile([numbers.word[word] for word in utterance.text.split()])
        path = align(model, graph, with_deltas(cepstra(utterance.pcm())))
        aligned = None if path is None else runs(model.hmm, path)
        states, phones = (aligned.states, aligned.phones) if aligned else (None, None)
        found.append({"id": utterance.id, "states": states, "phones": phones})
    return found


@cache
def _loaded(model: Path, lexicon: Path) -> tuple[AcousticModel, Lexicon]:
    """Once a process."""
    return load(model)[0], read_lexicon(lexicon)
