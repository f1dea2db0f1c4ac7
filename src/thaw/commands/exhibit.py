"""`thaw exhibit`: draw one table or figure of a study."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "draw one table or figure of a study from its scores and metrics"
EXAMPLE = """thaw exhibit --exhibit @table2.spec.json --out results/freezing/table2.csv results/freezing/table2.md"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    parser.add_argument("--exhibit", required=True, metavar="JSON|@FILE", help="what to draw from (an ExhibitSpec)")
    parser.add_argument(
        "--out",
        required=True,
        nargs="+",
        type=Path,
        metavar="FILE",
        help="files to write; their suffixes say which forms",
    )


def run(args: argparse.Namespace) -> None:
    """Draw, and write the forms asked for."""
    from thaw.exhibits.spec import ExhibitSpec, parse
    from thaw.exhibits.write import write_exhibit

    write_exhibit(parse(ExhibitSpec, args.exhibit, "--exhibit"), args.out)
