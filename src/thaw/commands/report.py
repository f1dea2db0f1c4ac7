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
    parser.add_argument("--so-far", metavar="JSON|@FILE", help="a second page, without the studies that have not ended")
    parser.add_argument("--so-far-out", type=Path, metavar="FILE", help="where to write that one")


def run(args: argparse.Namespace) -> None:
    """Write the page."""
    from thaw.errors import UserError
    from thaw.exhibits.spec import parse
    from thaw.report.page import ReportSpec, finished, write_report

    if (args.so_far is None) != (args.so_far_out is None):
        raise UserError("--so-far and --so-far-out: give both or neither")
    write_report(parse(ReportSpec, args.report, "--report"), args.out)
    if args.so_far:
        write_report(finished(parse(ReportSpec, args.so_far, "--so-far")), args.so_far_out)
