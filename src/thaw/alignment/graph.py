"""The decoding graph: HCLG, with a trigram of words for its G, and tied states on its arcs.

Composed as Kaldi's mkgraph does (Mohri, Pereira and Riley 2002). In the end the transitions of a state are told apart
no more: an arc that takes a frame is labelled with its tied state plus one. A decoder then reads scores of states, from
a GMM or a network, and is several times faster than one that reads transitions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from thaw.alignment import kaldi
from thaw.alignment.acoustic import Hmm
from thaw.alignment.fsts import Symbols, lexicon_fst_for_search
from thaw.alignment.lexicon import Lexicon
from thaw.alignment.tree import CENTRE
from thaw.alignment.viterbi import SELF_LOOP_SCALE
from thaw.errors import UserError
from thaw.files import read_json, read_text, replacing, verify, write_json, write_text

FST, WORDS, RECORD = "graph.fst", "words.txt", "graph.json"  # the files of a graph
CONTEXT = 3  # phones


@dataclass(frozen=True)
class Graph:
    """A decoding graph; number n of a word stands for words[n - 1]."""

    fst: Any
    words: tuple[str, ...]
    num_states: int  # tied states: columns of the scores it reads


def compose(hmm: Hmm, lexicon: Lexicon, numbers: Symbols, arpa: Path) -> Any:
    """HCLG of a model's tree and transitions, a lexicon, and an ARPA model over words of the lexicon."""
    kf, khg = kaldi.fst(), kaldi.hmm()
    lexicon_fst, disambiguation = lexicon_fst_for_search(lexicon, numbers)
    graph = kf.compose(lexicon_fst, _language_model(arpa, numbers))
    kf.determinize_star(graph, use_log=True)
    kf.minimize_encoded(graph)
    graph, windows = kf.compose_context(
        disambig_syms=disambiguation, context_width=CONTEXT, central_position=CENTRE, ifst=graph
    )
    kf.arcsort(graph, sort_type="ilabel")
    h, marks = khg.get_h_transducer(
        ilabel_info=windows, ctx_dep=hmm.tree, trans_model=hmm.transitions, config=khg.HTransducerConfig()
    )
    kf.arcsort(h, sort_type="olabel")
    graph = kf.compose(h, graph)
    kf.determinize_star(graph, use_log=True)
    gone = set(marks)
    _relabel(graph, lambda label: 0 if label in gone else label)
    kf.minimize_encoded(graph)
    graph = khg.add_self_loops(
        self_loop_scale=SELF_LOOP_SCALE,
        disambig_syms=[],
        reorder=True,  # as in the training graphs
        trans_model=hmm.transitions,
        ifst=graph,
    )
    states = hmm.state.tolist()
    _relabel(graph, lambda label: states[label] + 1 if label else 0)
    return graph


def _language_model(arpa: Path, numbers: Symbols) -> Any:
    """G: the ARPA model as an acceptor of words; n-grams with words outside the lexicon (and <unk>) are left out."""
    kf = kaldi.fst()
    with TemporaryDirectory(prefix="thaw-graph-") as folder:
        table = Path(folder) / "words"
        table.write_text(numbers.table(), encoding="utf-8")
        text = kaldi.arpa().arpa2fst(
            input_arpa=str(arpa), disambig_symbol="#0", read_symbol_table=str(table), max_arpa_warnings=0
        )
    grammar = kf.compile(text)
    kf.arcsort(grammar, sort_type="ilabel")
    return grammar


def _relabel(fst: Any, new: Callable[[int], int]) -> None:
    """Give every arc another input label, in place."""
    kf = kaldi.fst()
    for state in range(fst.num_states):
        arcs = [(arc.ilabel, arc.olabel, arc.weight, arc.nextstate) for arc in kf.ArcIterator(fst, state)]
        fst.delete_arcs(state, len(arcs))
        for label, output, weight, following in arcs:
            fst.add_arc(state, kf.StdArc(new(label), output, weight, following))


def write_graph(folder: Path, graph: Graph, record: dict[str, Any]) -> None:
    """Write a graph's three files."""
    with replacing(folder / FST) as temporary:
        graph.fst.write(str(temporary))
    write_text(folder / WORDS, "".join(f"{word}\n" for word in graph.words))
    write_json(folder / RECORD, {**record, "num_states": graph.num_states, "words": len(graph.words)})


def read_graph(folder: Path) -> Graph:
    """Read a graph's files; UserError where one is missing, damaged or none of thaw's."""
    words = tuple(read_text(folder / WORDS).splitlines())
    record = read_json(folder / RECORD)
    path = folder / FST
    verify(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if not isinstance(record, dict) or record.get("words") != len(words) or "num_states" not in record:
        raise UserError(f"{folder / RECORD}: not the record of a graph of thaw's; run the `graph` rule")
    fst = kaldi.fst().StdVectorFst.read(str(path))
    if fst is None:
        raise UserError(f"{path}: not a graph; delete it and run the `graph` rule")
    return Graph(fst, words, record["num_states"])
