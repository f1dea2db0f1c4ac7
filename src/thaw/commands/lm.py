"""thaw lm: training text → KenLM binary and lexicon."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "make a KenLM language model and its lexicon from training text, without the sentences of dev and test"
EXAMPLE = (
    'thaw lm --lm \'{"order":3}\' --text \'{"alphabet":" abcdefghijklmnopqrstuvwxyz"}\' --train train.jsonl \\\n'
    "    --exclude dev.jsonl test.jsonl --binary lm.binary --lexicon lexicon.txt --record lm.json"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--lm", default="{}", help="a LanguageModelSpec as JSON (default: %(default)s)")
    parser.add_argument("--text", required=True, help="a TextSpec as JSON: the alphabet, and rules for extra text")
    parser.add_argument("--content", default="", help="SHA-256 of the extra text, as the plan read it")
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="manifests whose text is learnt")
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="manifests whose sentences are left out")
    parser.add_argument("--binary", type=Path, required=True, help="written: the KenLM trie")
    parser.add_argument("--lexicon", type=Path, required=True, help="written: one word a line with its spelling")
    parser.add_argument("--record", type=Path, required=True, help="written: sizes, perplexity, checksum (JSON)")


def run(args: argparse.Namespace) -> None:
    """Make the language model. Raises UserError where the extra text is not what --content is of."""
    from thaw.config.decoders import LanguageModelSpec
    from thaw.config.schema import TextSpec
    from thaw.errors import UserError
    from thaw.files import write_json
    from thaw.lm.build import make
    from thaw.planning.contents import of_file

    spec = LanguageModelSpec.model_validate_json(args.lm)
    record = make(spec, TextSpec.model_validate_json(args.text), args.train, args.exclude, args.binary, args.lexicon)
    if args.content and of_file(spec.extra_text) != args.content:
        raise UserError(f"{spec.extra_text} was edited while it was read: run the same command again")
    write_json(args.record, record)
