"""How all figures look: fonts, colours that colour-blind readers tell apart, markers that grey print tells apart.

Colours: Okabe & Ito, "Color Universal Design" (2008), without its yellow (too faint on white), with a grey.
Figures are byte-stable: no dates, fixed salt, the fonts that come with matplotlib, the Agg and PDF backends alone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thaw.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLOURS = ("#000000", "#888888", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7")
TARGET_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#888888")
DASHED = (0, (4, 2))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
PRINT_DPI = 200
NOTE_SIZE, NOTE_LINE, NOTE_CHARACTERS = 7.5, 9.0, 17.0  # points; points from line to line; characters to an inch

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "pdf.fonttype": 42,  # TrueType, so that text in the PDF stays text
    "svg.hashsalt": "thaw",
    "text.parse_math": False,  # a label with dollars is a label, no formula
    "figure.dpi": PRINT_DPI,
    "savefig.dpi": PRINT_DPI,
}


@dataclass(frozen=True)
class Look:
    """How one series is drawn."""

    colour: str
    marker: str


def looks(
    names: Iterable[str],
    preferred: Iterable[str] = (),
    colours: Mapping[str, str] | None = None,
    palette: Sequence[str] = COLOURS,
) -> dict[str, Look]:
    """A look for each name. Names in `preferred` keep theirs whatever else is drawn; `colours` overrides colours.

    Raises UserError for a colour that matplotlib does not know.
    """
    from matplotlib.colors import is_color_like

    order = [*preferred]
    order += [name for name in names if name not in order]
    found = {}
    for name in names:
        place = order.index(name)
        colour = (colours or {}).get(name, palette[place % len(palette)])
        if not is_color_like(colour):
            raise UserError(f"style of {name}: {colour!r} is not a colour; write one like '#0072B2'")
        # The second round of colours has other markers, so that no two of 56 series look alike.
        found[name] = Look(colour, MARKERS[(place + place // len(palette)) % len(MARKERS)])
    return found


@contextmanager
def house_style() -> Iterator[None]:
    """matplotlib's own defaults with the house's settings: what a user's matplotlibrc says is ignored."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        for key, value in RC.items():
            matplotlib.rcParams[key] = value
        yield


def figure_bytes(figure: Figure) -> dict[str, bytes]:
    """The figure as PNG and PDF, without dates."""
    metadata: dict[str, dict[str, str | None]] = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
    }
    contents = {}
    for form, values in metadata.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, metadata=values)
        contents[form] = buffer.getvalue()
    return contents


def legend(on: Axes | Figure, handles: Sequence[Any], labels: Sequence[str] = (), **how: Any) -> None:
    """A legend of all handles, also of those whose label starts with an underscore, which matplotlib leaves out."""
    names = [*labels] or [str(handle.get_label()) for handle in handles]
    on.legend(handles, [f" {name}" if name.startswith("_") else name for name in names], **how)


def titled(axis: Axes, title: str, note: str) -> None:
    """A bold title over a panel, and under it, smaller, the words that name the scale."""
    inches = axis.figure.bbox.width / axis.figure.dpi
    note = broken(note, inches - 0.6)  # beside the labels of the y axis
    axis.set_title(title, pad=18 + NOTE_LINE * note.count("\n"))
    axis.annotate(note, (0, 1), xytext=(0, 5), xycoords="axes fraction", textcoords="offset points", fontsize=NOTE_SIZE,
                  color="#444444")  # fmt: skip


def figure_titled(figure: Figure, title: str, note: str) -> None:
    """The same over a whole figure."""
    from matplotlib.transforms import offset_copy

    note = broken(note, figure.get_figwidth() - 0.2)
    lines = 1 + note.count("\n")
    # The empty lines of the heading keep the room that the note, which the layout does not see, is put into.
    heading = figure.suptitle(title + "\n" * lines, x=0.012, ha="left", fontweight="bold", fontsize=9.5)
    below = offset_copy(figure.transFigure, fig=figure, y=-15, units="points")
    place = (0.012, heading.get_position()[1])
    figure.text(*place, note, ha="left", va="top", fontsize=NOTE_SIZE, color="#444444", transform=below,
                in_layout=False)  # fmt: skip


def broken(note: str, inches: float) -> str:
    """A note in as many lines as it takes not to be wider than `inches`; lines end at its semicolons."""
    lines = [""]
    for part in note.split("; "):
        longer = f"{lines[-1]}; {part}" if lines[-1] else part
        if lines[-1] and len(longer) > inches * NOTE_CHARACTERS:
            lines[-1] += ";"
            lines.append(part)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def from_zero(axes: Sequence[Axes]) -> None:
    """A common y axis from 0, with room for markers at its upper end; for when all is drawn."""
    top = max((axis.dataLim.y1 for axis in axes if math.isfinite(axis.dataLim.y1)), default=0.0)
    for axis in axes:
        axis.set_ylim(0, 1.06 * top or 1.0)


def plain_log_axis(axis: Axis) -> None:
    """Ticks of a logarithmic axis as plain numbers, closer together where it spans little; for when all is drawn."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low) if low > 0 else 3.0
    between = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0) if decades < 1.2 else (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)
    axis.set_major_locator(LogLocator(subs=between))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
