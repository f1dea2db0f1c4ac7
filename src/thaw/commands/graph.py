"""thaw graph: the tied states of an alignment, a lexicon and a language model → a decoding graph."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "compose a decoding graph (HCLG) from an alignment's model, a lexicon and an n-gram model of training text"
EXAMPLE = (
    'thaw graph --lm \'{"order":3}\' --text \'{"alphabet":" abcdefghijklmnopqrstuvwxyz"}\' --train train.jsonl \\\n'
    "    --exclude dev.jsonl test.jsonl --model gmm.safetensors --lexicon lexicon.txt --out graph/graph.fst"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--lm", default="{}", help="a LanguageModelSpec as JSON (default: %(default)s)")
    parser.add_argument("--text", required=True, help="a TextSpec as JSON: the alphabet, and rules for extra text")
    parser.add_argument("--content", default="", help="SHA-256 of the extra text, as the plan read it")
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="manifests whose text is learnt")
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="manifests whose sentences are left out")
    parser.add_argument("--model", type=Path, required=True, help="gmm.safetensors of an alignment")
    parser.add_argument("--lexicon", type=Path, required=True, help="word, tab, phones")
    parser.add_argument("--out", type=Path, required=True, help="written: the graph; words.txt, graph.json beside it")


def run(args: argparse.Namespace) -> None:
    """Compose and write the graph. UserError where the extra text is not what --content is of."""
    from thaw.alignment.graph import make
    from thaw.config.decoders import LanguageModelSpec
    from thaw.config.schema import TextSpec
    from thaw.errors import UserError
    from thaw.lm.build import gather
    from thaw.planning.contents import of_file

    spec = LanguageModelSpec.model_validate_json(args.lm)
    text = gather(args.train, args.exclude, spec.extra_text, TextSpec.model_validate_json(args.text))
    if args.content and of_file(spec.extra_text) != args.content:
        raise UserError(f"{spec.extra_text} was edited while it was read: run the same command again")
    record = make(spec, text, args.exclude, args.model, args.lexicon, args.out)
    print(f"graph: {record['nodes']} nodes, {record['arcs']} arcs, {record['words']} words")
    if left_out := record["words_left_out"]:
        why = f" (phones unknown to it: {' '.join(record['unknown_phones'])})" if record["unknown_phones"] else ""
        print(f"graph: {left_out} words of the text have no pronunciation that the model can say{why}: left out")
