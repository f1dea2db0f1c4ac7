"""What we take for a colour, matplotlib does too."""

from __future__ import annotations

import pytest
from matplotlib import colors

from thaw.config.colours import is_colour

KNOWN = [*colors.CSS4_COLORS, *colors.TABLEAU_COLORS, *colors.BASE_COLORS, "tab:grey", "RED", "Tab:Blue", "C0", "C12"]
KNOWN += ["#fff", "#FFFF", "#a1b2c3", "#a1b2c3d4", "0", "1", "0.5", ".25"]
WRONG = ["", "blau", "#ff", "#fffff", "#ggg", "B", "c0", "1.5", "-0.1", "nan", "tab:rot", " red", "rgb(1,2,3)", "#fff "]


@pytest.mark.parametrize("text", KNOWN)
def test_known(text: str) -> None:
    assert colors.is_color_like(text)
    assert is_colour(text)


@pytest.mark.parametrize("text", WRONG)
def test_wrong(text: str) -> None:
    assert not colors.is_color_like(text)
    assert not is_colour(text)
