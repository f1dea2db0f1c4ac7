"""Which layers to freeze, predicted before any transfer is trained: no paper's study, the question behind all of them.

The module is imported while the workflow is parsed, so nothing heavy is imported here: what draws is imported when an
exhibit is drawn.
"""

from __future__ import annotations

from typing import Literal

from thaw.exhibits.spec import FIGURE, TABLE, Exhibit, ExhibitSpec
from thaw.planning import transfers

CREDIT = (
    "Resets: C. Zhang, S. Bengio and Y. Singer, JMLR 2022, and L. Zhou et al. 2022; Auto-RGN: Y. Lee et al., ICLR "
    "2023; CKA: S. Kornblith et al., ICML 2019"
)
PAPER_FINDING = "None: nobody was found who predicts from resets which layers to freeze."


class Spec(transfers.TransfersSpec):
    """What a config says of this study."""

    kind: Literal["layers"]


check, plan = transfers.check, transfers.plan


def _table(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.predictions_table import draw_table

    return draw_table(spec)


def _figure(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.predictions_figure import draw_figure

    return draw_figure(spec)


EXHIBITS: dict[str, Exhibit] = {
    "table-predictions": Exhibit(
        "Which layers to freeze: predictions against trials", TABLE, ("scores", "evidence"), _table
    ),
    "figure-predictions": Exhibit(
        "Freezing each layer alone: predicted and measured", FIGURE, ("scores", "evidence"), _figure
    ),
}
