"""`thaw report`: one HTML page on everything a config made."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write one HTML page with all tables, figures, runs and samples; it opens offline"
EXAMPLE = """thaw report --report @report.spec.json --out results/report-mini.html"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    parser.add_argument("--report", required=True, metavar="JSON|@FILE", help="what the page shows (a ReportSpec)")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="the page to write (.html)")


def run(args: argparse.Namespace) -> None:
    """Write the page."""
    from thaw.exhibits.spec import parse
    from thaw.report.page import ReportSpec, write_report

    write_report(parse(ReportSpec, args.report, "--report"), args.out)
