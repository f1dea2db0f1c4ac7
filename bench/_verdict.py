"""What a bench found, in the one line that `python -m bench` gathers: a figure beside the one that it is to reach."""

from __future__ import annotations

MARK = "verdict: "
SKIPPED = "skipped: "  # begins the only line of a bench that has nothing to measure on here


def verdict(what: str, figure: float, *, least: float | None = None, most: float | None = None) -> None:
    """Print a figure and its aim, at least or at most so much."""
    assert (least is None) != (most is None)
    aim, bound = ("at least", least) if least is not None else ("at most", most)
    assert bound is not None
    met = figure >= bound if least is not None else figure <= bound
    print(f"{MARK}{what}: {figure:.3g} (aim: {aim} {bound:g}{'' if met else '; MISSED'})", flush=True)
