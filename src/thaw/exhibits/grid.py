"""A printed table as data, and its three written forms: Markdown, LaTeX (booktabs), JSON (for the report).

All forms come from one `Grid`, so they cannot disagree.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

NONE = "–"  # a cell without a value
MINUS = "−"


@dataclass(frozen=True)
class Printed:
    """One cell: its text, whether it is the best of its column, its footnote letters, and the runs behind it."""

    text: str
    bold: bool = False
    mark: str = ""
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """One column. Neighbours with the same group share a heading."""

    title: str
    group: str = ""
    text: bool = False  # words, so aligned left


@dataclass(frozen=True)
class Block:
    """One table: rows of a label and one cell per column."""

    title: str
    stub: str  # heading of the labels
    columns: tuple[Column, ...]
    rows: tuple[tuple[Printed, ...], ...]  # the label first
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grid:
    """An exhibit of one or more blocks. `note` names the scale.

    `apart` blocks hold other people's numbers; `more` blocks are for those who look closer. They follow in this order.
    """

    name: str
    title: str
    note: str
    blocks: tuple[Block, ...]
    apart: tuple[Block, ...] = ()
    more: tuple[Block, ...] = ()


# --- Markdown -------------------------------------------------------------------------------------


def markdown(grid: Grid) -> str:
    """The grid as GitHub-flavoured Markdown."""
    parts = [f"# {markdown_text(grid.title)}", f"**{markdown_text(grid.note)}**", *map(_md_block, grid.blocks)]
    for blocks in (grid.apart, grid.more):
        parts += ["---", *map(_md_block, blocks)] if blocks else []
    return "\n\n".join(parts) + "\n"


def one_line(text: str) -> str:
    """Text without line breaks, which would end a row, a heading or a comment."""
    return " ".join(text.split())


def markdown_text(text: str) -> str:
    """`text` as Markdown prints it literally."""
    # Besides what is markup everywhere: $ (formulas), ~ (struck out) and & (entities) where GitHub shows it.
    return "".join(f"\\{character}" if character in "\\|*_`<>[]$~&" else character for character in one_line(text))


def _md_cell(cell: Printed) -> str:
    text = f"**{markdown_text(cell.text)}**" if cell.bold else markdown_text(cell.text)
    return text + (f"<sup>{cell.mark}</sup>" if cell.mark else "")


def _md_block(block: Block) -> str:
    titles = [f"{column.group}: {column.title}" if column.group else column.title for column in block.columns]
    lines = [
        f"## {markdown_text(block.title)}",
        "",
        "| " + " | ".join(markdown_text(title) for title in (block.stub, *titles)) + " |",
        "| " + " | ".join(["---"] + ["---" if column.text else "---:" for column in block.columns]) + " |",
        *("| " + " | ".join(map(_md_cell, row)) + " |" for row in block.rows),
    ]
    for note in block.notes:
        lines += ["", markdown_text(note)]
    return "\n".join(lines)


# --- LaTeX ----------------------------------------------------------------------------------------

_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",  # a row that starts with a bracket would be read as the length after \\
    "]": "{]}",
    MINUS: "$-$",
    "–": "--",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "→": r"$\rightarrow$",
}


def tex_escape(text: str) -> str:
    """`text` as LaTeX prints it literally."""
    return "".join(_TEX.get(character, character) for character in one_line(text))


def latex(grid: Grid) -> str:
    r"""The grid as LaTeX tables; the document needs `\usepackage{booktabs,graphicx}` and UTF-8."""
    blocks = (*grid.blocks, *grid.apart, *grid.more)
    head = [f"% {one_line(grid.title)}", f"% {one_line(grid.note)}", r"% needs \usepackage{booktabs,graphicx}", ""]
    return "\n".join(head) + "\n".join(_tex_block(grid, block, n) for n, block in enumerate(blocks, start=1))


def _tex_cell(cell: Printed) -> str:
    text = tex_escape(cell.text)
    text = rf"\textbf{{{text}}}" if cell.bold else text
    return text + (rf"\textsuperscript{{{tex_escape(cell.mark)}}}" if cell.mark else "")


def _tex_block(grid: Grid, block: Block, number: int) -> str:
    # A block of someone else's numbers says so in its title; ours say the scale.
    apart = block in grid.apart
    caption = block.title if apart else f"{block.title} ({grid.note})"
    lines = [
        r"\begin{table}",
        r"  \centering\small",
        rf"  \caption{{{tex_escape(caption)}}}",
        rf"  \label{{tab:{grid.name}-{number}}}",
        # As wide as it is, but never wider than the page.
        r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"  \begin{{tabular}}{{l{''.join('l' if column.text else 'r' for column in block.columns)}}}",
        r"    \toprule",
        *_tex_heading(block.columns),
        "    " + " & ".join(tex_escape(title) for title in (block.stub, *(c.title for c in block.columns))) + r" \\",
        r"    \midrule",
        *("    " + " & ".join(map(_tex_cell, row)) + r" \\" for row in block.rows),
        r"    \bottomrule",
        r"  \end{tabular}}",
        *(rf"  \par\smallskip{{\footnotesize {tex_escape(note)}}}" for note in block.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tex_heading(columns: Sequence[Column]) -> list[str]:
    """The line of group headings and the rules under it; nothing where no column has a group."""
    if not any(column.group for column in columns):
        return []
    cells, rules, first = [""], [], 2
    for group, members in groupby(columns, key=lambda column: column.group):
        width = len(list(members))
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{tex_escape(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{first}-{first + width - 1}}}")
        first += width
    return ["    " + " & ".join(cells) + r" \\", "    " + " ".join(rules)]


# --- JSON -----------------------------------------------------------------------------------------


def as_json(grid: Grid) -> str:
    """The grid as JSON, runs behind the cells included: what the report draws."""
    return json.dumps(asdict(grid), sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def written(grid: Grid, csv: bytes) -> dict[str, bytes]:
    """All written forms by suffix, with the tidy `csv` of the same numbers."""
    forms = {"md": markdown(grid), "tex": latex(grid), "json": as_json(grid)}
    return {"csv": csv} | {suffix: text.encode() for suffix, text in forms.items()}
