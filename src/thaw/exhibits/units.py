"""What intervals and tests resample, in words: speakers, or where there are too few, utterances, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from thaw.config.schema import ScoringSpec
from thaw.exhibits.measures import Result, level_text
from thaw.scoring.intervals import ONE_SPEAKER

NOUNS = {"speaker": "speakers", "utterance": "utterances"}

Unit = tuple[str, str]  # `unit` and `note` of scores.json
Pairs = dict[str, Unit]  # by the label of a target


def unit_of(scores: Mapping[str, Any]) -> Unit:
    """What the intervals of one scores.json are over, and why that is not speakers."""
    return str(scores.get("unit", "")), str(scores.get("note", ""))


def units_of_results(results: Iterable[Result], labels: Mapping[str, str]) -> Pairs:
    """The same by target. All that is decoded on one test set has the same speakers, so one result speaks for all."""
    found: Pairs = {}
    for result in results:
        found.setdefault(labels[result.target], unit_of(result.pooled))
    return found


def interval_note(scoring: ScoringSpec, units: Pairs) -> str:
    """What brackets behind rates are."""
    over = _over(units, "test ")
    if not over:
        return f"No intervals: {_reasons(units, 'none')}."
    text = f"[{level_text(scoring.level)}]: interval {over}."
    if any(kind == "none" for kind, _ in units.values()):
        text += f" Without one: {_reasons(units, 'none')}."
    if any(kind == "utterance" for kind, _ in units.values()):
        text += " Intervals over utterances are for other sentences of the same speakers, not for other speakers."
    return text


def paired_over(units: Pairs) -> str:
    """What paired tests permute: "over speakers"."""
    return _over(units, "") or "over utterances"


def bars_over(units: Pairs) -> str:
    """What follows "intervals" over a figure: nothing, where all are over speakers."""
    labels = [label for label, (kind, _) in units.items() if kind == "utterance"]
    if not labels:
        return ""
    return " over utterances" + (f" ({', '.join(labels)})" if len(labels) < len(units) else "")


def count_text(scores: Mapping[str, Any]) -> str:
    """How many speakers, or utterances, the interval of one scores.json is over."""
    kind, why = unit_of(scores)
    if kind == "speaker":
        return f"over {scores['speakers']} speakers"
    utterances = "1 utterance" if scores["utterances"] == 1 else f"{scores['utterances']:,} utterances"
    return f"over {utterances}" + (f" ({why})" if kind == "utterance" else "")


def _over(units: Pairs, which: str) -> str:
    kinds = [kind for kind in NOUNS if any(kind == found for found, _ in units.values())]
    return ", ".join(f"over {which}{NOUNS[kind]}{_in_brackets(units, kind)}" for kind in kinds)


def _in_brackets(units: Pairs, kind: str) -> str:
    """Which targets, where not all, and why utterances."""
    everywhere = all(found == kind for found, _ in units.values())
    if kind == "speaker":
        labels = [label for label, (found, _) in units.items() if found == kind]
        return "" if everywhere else f" ({', '.join(labels)})"
    whys = [*dict.fromkeys(why for found, why in units.values() if found == kind)]
    return f" ({_each(whys[0], len(units))})" if everywhere and len(whys) == 1 else f" ({_reasons(units, kind)})"


def _reasons(units: Pairs, kind: str) -> str:
    """ "Spanish, Italian: one speaker each; Russian: 3 speakers"."""
    labels: dict[str, list[str]] = {}
    for label, (found, why) in units.items():
        if found == kind:
            labels.setdefault(why, []).append(label)
    return "; ".join(f"{', '.join(names)}: {_each(why, len(names))}" for why, names in labels.items())


def _each(why: str, targets: int) -> str:
    return f"{why} each" if why == ONE_SPEAKER and targets > 1 else why
