"""thaw units: the text of a training split → words or byte pairs."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "count the words of a training split, or learn its byte pairs: output classes that are no characters"
EXAMPLE = (
    'thaw units --units \'{"kind":"words","min_count":2}\' --train train.jsonl --out units.json --record record.json'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--units", required=True, metavar="JSON", help="a UnitsSpec of kind words or bpe")
    parser.add_argument("--content", default="", help="SHA-256 of the user's own vocabulary, as the plan read it")
    parser.add_argument("--train", type=Path, required=True, help="the manifest whose text is counted")
    parser.add_argument("--out", type=Path, required=True, help="written: the units (JSON)")
    parser.add_argument("--record", type=Path, required=True, help="written: how many, and what they cover (JSON)")


def run(args: argparse.Namespace) -> None:
    """Make the units. Raises UserError where the user's vocabulary is not what --content is of, or is none."""
    import sys

    from pydantic import TypeAdapter

    from thaw.config.units import CharacterUnits, UnitsSpec, WordUnits
    from thaw.corpora.sentences import read_sentences
    from thaw.errors import UserError
    from thaw.files import write_json
    from thaw.planning.contents import of_file
    from thaw.units.making import make_units

    spec: UnitsSpec = TypeAdapter[UnitsSpec](UnitsSpec).validate_json(args.units)
    if isinstance(spec, CharacterUnits):
        raise UserError("--units: characters are those of a language's alphabet; give words or bpe")
    units, record = make_units(spec, [sentence.text for sentence in read_sentences([args.train])])
    if args.content and isinstance(spec, WordUnits) and of_file(spec.file) != args.content:
        raise UserError(f"{spec.file} was edited while it was read: run the same command again")
    write_json(args.out, units.plain())
    write_json(args.record, record)
    print(f"units: {units.describe()} for {record['labels']:,} labels in {record['words']:,} words", file=sys.stderr)
