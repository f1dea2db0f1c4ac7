"""`thaw fetch`: a corpus as published, or synthesised, and the list of its utterances."""

from __future__ import annotations

import argparse
from pathlib import Path

from thaw.commands.options import index

HELP = "get a corpus (or synthesise it) and list its utterances"
EXAMPLE = """thaw fetch --source '{"kind":"commonvoice","path":"cv-corpus-21.0/de"}' --language de --root data/de \\
           --utterances utterances.jsonl --rejects rejects.tsv --record fetch.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `thaw fetch`."""
    parser.add_argument(
        "--source", required=True, help="where the corpus comes from: a corpus entry's `source`, as JSON"
    )
    parser.add_argument("--language", required=True, help="the language of its utterances, e.g. de")
    parser.add_argument("--root", required=True, type=Path, help="folder for the corpus files; kept between attempts")
    parser.add_argument("--mirror", default="", help="a folder or address to look for archives before the web")
    parser.add_argument("--threads", type=index, default=0, help="processes that synthesise; 0: one per usable core")
    parser.add_argument("--content", default="", help="digest of the user's own tables, as the plan read them")
    parser.add_argument("--utterances", required=True, type=Path, help="list to write, JSON Lines")
    parser.add_argument("--rejects", required=True, type=Path, help="table to write: what was left out, and why")
    parser.add_argument("--record", required=True, type=Path, help="record to write, JSON")


def run(args: argparse.Namespace) -> None:
    """Fetch the corpus into --root and write the three files. Raises UserError where its tables are not --content's.

    What is made from a corpus is called by what its tables held when the plan was made.
    """
    from thaw.corpora.fetch import fetch, read_source
    from thaw.errors import UserError
    from thaw.planning.contents import of_source

    source = read_source(args.source)
    outputs = (args.utterances, args.rejects, args.record)
    fetch(source, args.language, args.root, *outputs, args.mirror, args.threads)
    if args.content and of_source(source, args.language) != args.content:
        raise UserError("the corpus's own tables were edited while it was listed: run the same command again")
