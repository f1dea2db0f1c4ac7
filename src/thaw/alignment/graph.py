"""The decoding graph: HCLG, with a trigram of words for its G, and tied states on its arcs.

Composed as Kaldi's mkgraph does (Mohri, Pereira and Riley 2002). In the end the transitions of a state are told apart
no more: an arc that takes a frame is labelled with its tied state plus one. A decoder then reads scores of states, from
a GMM or a network, and is several times faster than one that reads transitions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from thaw.alignment import kaldi
from thaw.alignment.acoustic import Hmm, load
from thaw.alignment.fsts import Symbols, lexicon_fst_for_search, symbols
from thaw.alignment.lexicon import Lexicon, known_words, read_lexicon
from thaw.alignment.tree import CENTRE
from thaw.alignment.viterbi import SELF_LOOP_SCALE
from thaw.canonical import file_sha256
from thaw.config.decoders import LanguageModelSpec
from thaw.errors import UserError
from thaw.files import read_json, read_text, replacing, verify, write_json, write_text
from thaw.lm.build import Text, estimate_arpa, measure, sentences_of

WORDS, RECORD = "words.txt", "graph.json"  # beside the graph itself
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
        with kaldi.quiet():
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


def make(
    spec: LanguageModelSpec, text: Text, tested: Sequence[Path], model_path: Path, lexicon_path: Path, out: Path
) -> dict[str, Any]:
    """Write the graph of a model, a lexicon and the n-gram model of a text; gives its record.

    Words that the lexicon lacks, or says with phones that the model lacks, are left out, and counted. `tested`:
    manifests whose perplexity is recorded. UserError where no word is left.
    """
    model, _ = load(model_path)
    lexicon, wrong = known_words(read_lexicon(lexicon_path), model.phones)
    vocabulary = text.vocabulary()
    lexicon = Lexicon({word: lexicon.words[word] for word in vocabulary if word in lexicon.words})
    if not lexicon.words:
        said = f" (its phones: {wrong})" if wrong else ""
        raise UserError(f"{lexicon_path}: has no word of the text that the acoustic model can say{said}")
    numbers = symbols(model.phones[1:], lexicon)
    with TemporaryDirectory(prefix="thaw-graph-") as folder:
        arpa = estimate_arpa(text.sentences, spec, Path(folder))
        tests = {manifest.stem: measure(arpa, sentences_of(manifest)) for manifest in tested}
        graph = Graph(compose(model.hmm, lexicon, numbers, arpa), numbers.words, model.mixtures.num_states)
    record = {
        "language_model": spec.model_dump(mode="json"),
        "gmm_sha256": file_sha256(model_path),
        "lexicon_sha256": file_sha256(lexicon_path),
        "sentences": len(text.sentences),
        "excluded_sentences": text.excluded,
        "unknown_phones": wrong.split(),
        "words_left_out": len(vocabulary) - len(lexicon.words),
        "tested_on": tests,
        "nodes": graph.fst.num_states,
        "arcs": sum(graph.fst.num_arcs(state) for state in range(graph.fst.num_states)),
    }
    write_graph(out, graph, record)
    return {**record, "words": len(graph.words)}


def write_graph(path: Path, graph: Graph, record: dict[str, Any]) -> None:
    """Write a graph, and its words and its record beside it."""
    with replacing(path) as temporary:
        graph.fst.write(str(temporary))
    write_text(path.with_name(WORDS), "".join(f"{word}\n" for word in graph.words))
    write_json(path.with_name(RECORD), {**record, "num_states": graph.num_states, "words": len(graph.words)})


def read_graph(path: Path) -> Graph:
    """Read a graph, with what lies beside it; UserError where one is missing, damaged or none of thaw's."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    words = tuple(read_text(path.with_name(WORDS)).split("\n")[:-1])
    record = read_json(path.with_name(RECORD))
    verify(path)
    if not isinstance(record, dict) or record.get("words") != len(words) or "num_states" not in record:
        raise UserError(f"{path.with_name(RECORD)}: not the record of a graph of thaw's; run the `graph` rule")
    fst = kaldi.fst().StdVectorFst.read(str(path))
    if fst is None:
        raise UserError(f"{path}: not a graph; delete it and run the `graph` rule")
    return Graph(fst, words, record["num_states"])
