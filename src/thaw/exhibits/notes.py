"""What stands under tables and figures: what brackets are over, what ± and marks mean, what a family of tests is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from thaw.exhibits.frame import UNIT_NAMES, Cell, change, grouped
from thaw.exhibits.spec import ExhibitSpec
from thaw.scoring.measures import TOKEN, Measure
from thaw.scoring.statistics import SIGNIFICANT, family_text

UNFINISHED = "†"

Unit = tuple[str, str]  # what intervals are over, and why that is not speakers
Pairs = dict[str, Unit]  # by the label of a target

# What stands in text for what speech has; longer words first.
OF_TEXT = {"utterances": "sentences", "utterance": "sentence", "speakers": "documents", "speaker": "document"}


def rate_text(cell: Cell) -> str:
    """A rate with its interval and its spread over seeds: "62.3 [59.8, 64.9] ±2.1"."""
    found = cell.estimate
    text = bounds_text(cell.measure, found.rate, found.low, found.high)
    return text if found.sd_seeds is None else f"{text} ±{change(cell, found.sd_seeds):.1f}"


def bounds_text(measure: Measure, rate: float, low: float | None, high: float | None) -> str:
    """ "62.3 [59.8, 64.9]"; without brackets where there is no interval."""
    text = f"{measure.shown(rate):.1f}"
    return text if low is None or high is None else f"{text} [{measure.shown(low):.1f}, {measure.shown(high):.1f}]"


def with_unit(text: str, measure: Measure) -> str:
    """ "62.3 [59.8, 64.9] %"."""
    return f"{text} %" if measure.form == "percent" else text


def scores_text(scores: Mapping[str, Any], measure: Measure) -> str:
    """The same of one measure in scores.json, which is of one run."""
    return bounds_text(measure, *(scores[measure.key][name] for name in ("rate", "low", "high")))


def level_text(level: float) -> str:
    """0.95 -> "95 %"."""
    return f"{100 * level:.4g} %"


def units_of(frame: Iterable[Cell]) -> Pairs:
    """What intervals are over, by target. All that is judged on one test set has the same speakers."""
    return {cell.run.target_label: (cell.estimate.unit, cell.estimate.note) for cell in frame}


def in_words(notes: Iterable[str], cells: Iterable[Cell]) -> list[str]:
    """Notes as they are; of a language model, where a document stands for a speaker, in the words of text."""
    found = [*notes]
    if all(cell.measure == TOKEN for cell in cells):
        for spoken, written in OF_TEXT.items():
            found = [note.replace(spoken, written) for note in found]
    return found


def rate_notes(spec: ExhibitSpec, frame: Iterable[Cell]) -> list[str]:
    """What brackets and ± are, what noise they hold, and which runs were not finished."""
    cells = [*frame]
    splits = {cell.decode.split for cell in cells}
    over = interval_note(spec.scoring.level, units_of(cells), f"{splits.pop()} " if len(splits) == 1 else "")
    notes = [f"{over} {seed_note(cells)} Bold: lowest of its column."]
    seeds = sorted({cell.estimate.seeds for cell in cells})
    if seeds[-1] > 1:
        notes.append(f"Mean over {'–'.join(map(str, seeds))} random seeds; ±: standard deviation over them.")
    if any(cell.decode.split == "dev" for cell in cells):
        notes.append(
            "On dev a training chose its best epoch, and a tuned decoder its weights: rates are lower than on test."
        )
    return in_words(notes + unfinished_note(cells), cells)


def interval_note(level: float, units: Pairs, which: str = "") -> str:
    """What brackets behind rates are over."""
    over = over_text(units, which)
    text = f"[{level_text(level)}]: interval {over}." if over else "No intervals."
    none = ", ".join(f"{label} ({why})" for label, (kind, why) in units.items() if kind == "none")
    text += f" None for {none}." if none else ""
    if any(kind == "utterance" for kind, _ in units.values()):
        text += " Intervals over utterances are for other sentences of the same speakers, not for other speakers."
    return text


def over_text(units: Pairs, which: str = "") -> str:
    """What is resampled, of which targets where not of all, and why not speakers: "over speakers"; empty for none."""
    groups = grouped((label for label, (kind, _) in units.items() if kind in UNIT_NAMES), lambda label: units[label])
    texts = []
    for (kind, why), labels in groups.items():
        known = filter(None, (", ".join(labels) if len(labels) < len(units) else "", why))
        brackets = ": ".join(known)
        texts.append(f"over {which}{UNIT_NAMES[kind]}" + (f" ({brackets})" if brackets else ""))
    return ", ".join(texts)


def seed_note(cells: Iterable[Cell]) -> str:
    """Whether intervals hold what another random seed would have changed, and how much that is."""
    pools = {(cell.run.target_label, cell.measure.name, cell.noise): cell for cell in cells}
    alone = [*dict.fromkeys(label for label, _, noise in pools if not noise.degrees)]
    if len(alone) == len({label for label, _, _ in pools}):
        return (
            "No random seed is repeated: rates and intervals are those of these trained models, hold nothing of what "
            "another seed would have changed, and come without p values."
        )
    known = grouped((key for key in pools if key[2].degrees), lambda key: key[0])
    sizes = "; ".join(f"{label}: {_noises(keys, pools)}" for label, keys in known.items())
    text = (
        "Intervals hold what another random seed would have changed, too. One training differs from the next by a "
        f"standard deviation, pooled over all treatments judged in the same way, of: {sizes}."
    )
    return text + (f" Of these trained models only, no random seed repeated: {', '.join(alone)}." if alone else "")


def _noises(keys: Iterable[Any], pools: Mapping[Any, Cell]) -> str:
    shown = [f"{name} {change(pools[label, name, noise], noise.sd):.1f}" for label, name, noise in keys]
    degrees = {noise.degrees for _, _, noise in keys}
    return f"{', '.join(shown)} ({'–'.join(map(str, sorted(degrees)))} degrees of freedom)"


def unfinished_note(cells: Iterable[Cell]) -> list[str]:
    """What the mark behind rates of runs that did not end by themselves means; nothing where there is none."""
    runs = {one.run.id for cell in cells for one in cell.judged}
    late = {one.run.id for cell in cells for one in cell.judged if one.run.id in cell.unfinished}
    if not late:
        return []
    return [f"{UNFINISHED}: the best epoch of a training is its last: it was stopped, not finished, and might have got "
            f"better ({len(late)} of {len(runs)} runs)."]  # fmt: skip


def difference_notes(cells: Iterable[Cell], base: str, label: str) -> list[str]:
    """What a table of differences to one treatment says: the tests, their families, and how little they could show."""
    tested = [cell for cell in cells if base in cell.tests]
    comparisons = [cell.tests[base].comparison for cell in tested]
    text = f"Difference to “{label}” on the same utterances, in points (−: lower)."
    if all(found.p is None for found in comparisons):
        why = "no random seed is repeated, and a difference of these trained models is none of the treatments"
        return in_words([f"{text} No p values: {why}."], tested)
    families = grouped(tested, lambda cell: cell.column)
    tests = max(len(family) for family in families.values())
    smallest = "; ".join(filter(None, (smallest_text(family, base) for family in families.values())))
    notes = [
        f"{text} In brackets behind the interval: two-sided p {over_text(units_of(tested))} and random seeds, after "
        f"Holm's correction; bold: p < {SIGNIFICANT}. {family_text(tests)}",
        f"Smallest difference that a column could have shown (4 times of 5, the first of its family): {smallest}.",
    ]
    return in_words(notes, tested)


def smallest_text(family: list[Cell], base: str) -> str:
    """ "German WER 6.1 to 7.4 points"; empty where nothing could be shown at all."""
    found = []
    for cell in family:
        comparison = cell.tests[base].comparison
        smallest = comparison.smallest_of(len(family))
        if smallest is not None:
            found.append(f"{change(cell, smallest):.1f}")
    if not found:
        return ""
    low, high = min(found, key=float), max(found, key=float)
    span = low if low == high else f"{low} to {high}"
    return f"{family[0].run.target_label} {family[0].measure.name} {span} points"


def bars_over(frame: Iterable[Cell]) -> str:
    """What follows "intervals" over a figure."""
    cells = [*frame]
    trained = [cell for cell in cells if cell.estimate.scope == "these trained models"]
    over = in_words([over_text(units_of(cells))], cells)[0]
    if len(trained) == len(cells):
        return f"{over} of these trained models"
    labels = dict.fromkeys(cell.run.place.label if cell.run.place else cell.run.target_label for cell in trained)
    alone = f" ({', '.join(labels)}: of these trained models alone)" if trained else ""
    return f"{over} and random seeds{alone}"


def count_text(scores: Mapping[str, Any]) -> str:
    """How many speakers, or utterances, the interval of one scores.json is over."""
    kind, why = str(scores.get("unit", "")), str(scores.get("note", ""))
    if kind == "speaker":
        return f"over {scores['speakers']} speakers"
    utterances = "1 utterance" if scores["utterances"] == 1 else f"{scores['utterances']:,} utterances"
    return f"over {utterances}" + (f" ({why})" if kind == "utterance" else "")
