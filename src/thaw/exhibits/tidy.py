"""The same numbers as rows of a csv, for other programs: one row per cell, with the run and files behind it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from thaw.exhibits.dev import DevRate, DevRates
from thaw.exhibits.measures import LEVELS, Differences, Level, Result, Results
from thaw.exhibits.published import PublishedRate
from thaw.exhibits.spec import CorpusRow, ExhibitSpec

Row = dict[str, Any]


def columns(names: str) -> list[str]:
    """Names separated by spaces."""
    return names.split()


RATE_COLUMNS = columns(
    "scale scale_note study block target target_label treatment label decoder decoder_label measure seed percent low "
    "high interval_over spread_over_seeds sub del ins ref utterances speakers to_baseline to_baseline_low "
    "to_baseline_high to_baseline_p to_baseline_p_holm to_reference to_reference_low to_reference_high "
    "to_reference_p to_reference_p_holm published_percent remark run decode scores_file counts_file"
)
CORPUS_COLUMNS = columns(
    "scale scale_note study corpus label source split listed kept rejected rejected_by_reason hours speakers "
    "characters words alphabet_size counts_file"
)
CURVE_COLUMNS = columns(
    "scale scale_note study target target_label treatment label seed epoch train_loss dev_loss best run"
)


def as_csv(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """Rows as csv; keys that are not columns raise, missing ones are empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def heading(spec: ExhibitSpec) -> Row:
    """What every row says of where it belongs."""
    return {"scale": spec.scale, "scale_note": spec.note, "study": spec.study}


def points(fraction: float | None) -> float | str:
    """A fraction in per cent, at a precision far below its interval; empty for None."""
    return "" if fraction is None else round(100 * fraction, 4)


def interval_over(scores: Mapping[str, Any]) -> str:
    """What the intervals and tests of these scores resample: "speakers", "utterances", or nothing."""
    return {"speaker": "speakers", "utterance": "utterances"}.get(str(scores.get("unit", "")), "")


def rates_csv(
    spec: ExhibitSpec,
    results: Results,
    dev: DevRates,
    against: Mapping[str, Differences],
    rates: Sequence[PublishedRate],
    remarks: Mapping[str, str],
    beside: Sequence[str],
) -> str:
    """Rates by target, decoder, treatment, measure and seed; with several seeds also their mean.

    Published rates have a column of their own: beside ours for the decoders in `beside`, in rows of their own where
    there is no such decoder.
    """
    rows: list[Row] = []
    for result in results.values():
        for level in LEVELS:
            common = _common(spec, result, level) | {"remark": remarks.get(result.treatment, "")}
            if result.decoder in beside:
                common |= {"published_percent": _published(rates, result, level)}
            tests = _tests(spec, result, level, against)
            if len(result.seeds) > 1:
                spread = points(result.spread(level))
                rows.append(
                    common | _edits(result.pooled, level) | tests | {"seed": "mean", "spread_over_seeds": spread}
                )
                tests = {}
            for seed in result.seeds:
                row = common | _edits(seed.scores, level) | tests
                row |= {"seed": seed.run.seed, "run": seed.run.id, "decode": seed.decode.id}
                rows.append(row | {"scores_file": seed.decode.scores, "counts_file": seed.decode.counts})
    rows += [
        row for (target, treatment), found in dev.items() for row in _dev_rows(spec, target, treatment, found, rates)
    ]
    if not beside and not (dev and spec.comparable):
        published = ((rate, level) for rate in rates for level in LEVELS if rate.rate(level) is not None)
        rows += [_published_row(rate, level, spec, remarks) for rate, level in published]
    return as_csv(RATE_COLUMNS, rows)


def _common(spec: ExhibitSpec, result: Result, level: Level) -> Row:
    return heading(spec) | {
        "block": "result",
        "target": result.target,
        "target_label": spec.targets[result.target],
        "treatment": result.treatment,
        "label": spec.treatments[result.treatment],
        "decoder": result.decoder,
        "decoder_label": spec.decoders[result.decoder],
        "measure": LEVELS[level],
    }


def _edits(scores: Mapping[str, Any], level: Level) -> Row:
    counts = scores[level]
    row = {key: counts[key] for key in ("sub", "del", "ins", "ref")}
    row |= {"percent": points(counts["rate"]), "low": points(counts["low"]), "high": points(counts["high"])}
    row["interval_over"] = interval_over(scores)
    return row | {"utterances": scores.get("utterances", ""), "speakers": scores.get("speakers", "")}


def _tests(spec: ExhibitSpec, result: Result, level: Level, against: Mapping[str, Differences]) -> Row:
    row: Row = {}
    place = (result.target, result.decoder, result.treatment, level)
    for name, base in (("to_baseline", spec.baseline), ("to_reference", spec.reference)):
        difference = against.get(base, {}).get(place)
        if difference:
            found = difference.comparison
            row |= {name: points(found.difference), f"{name}_low": points(found.low)}
            row |= {f"{name}_high": points(found.high), f"{name}_p": f"{found.p:.6g}"}
            row |= {f"{name}_p_holm": f"{difference.p_holm:.6g}"}
    return row


def _published(rates: Sequence[PublishedRate], result: Result, level: Level) -> float | str:
    found = [r for r in rates if (r.treatment, r.target) == (result.treatment, result.target)]
    return points(found[0].rate(level)) if found else ""


def _dev_rows(
    spec: ExhibitSpec, target: str, treatment: str, found: DevRate, rates: Sequence[PublishedRate]
) -> Iterable[Row]:
    published = [r for r in rates if (r.treatment, r.target) == (treatment, target)] if spec.comparable else []
    for run, rate in found.by_run.items():
        yield heading(spec) | {
            "block": "dev",
            "target": target,
            "target_label": spec.targets[target],
            "treatment": treatment,
            "label": spec.treatments[treatment],
            "decoder_label": "greedy, in training",
            "measure": LEVELS["word"],
            "seed": found.seeds[run],
            "percent": points(rate),
            "published_percent": points(published[0].word) if published else "",
            "remark": _bound(published[0]) if published else "",
            "run": run,
        }


def _bound(rate: PublishedRate) -> str:
    """What a csv says of a rate that was not published as a number of its own."""
    return f"published as {rate.text('word')}" if rate.bound else ""


def _published_row(rate: PublishedRate, level: Level, spec: ExhibitSpec, remarks: Mapping[str, str]) -> Row:
    return {
        "scale": "paper",
        "scale_note": "published numbers, paper scale",
        "study": spec.study,
        "block": "published",
        "target": rate.target,
        "target_label": rate.target_label,
        "treatment": rate.treatment,
        "label": rate.label,
        "measure": LEVELS[level],
        "published_percent": points(rate.rate(level)),
        "remark": remarks.get(rate.treatment, "") or _bound(rate),
    }


def corpora_csv(spec: ExhibitSpec, counts: Sequence[tuple[CorpusRow, Mapping[str, Mapping[str, Any]]]]) -> str:
    """Counts by corpus and split."""
    rows = [
        heading(spec)
        | {
            "corpus": corpus.name,
            "label": corpus.label,
            "source": corpus.source,
            "split": split,
            "listed": found["listed"],
            "kept": found["utterances"],
            "rejected": sum(found["rejected"].values()),
            "rejected_by_reason": "; ".join(f"{reason}={n}" for reason, n in sorted(found["rejected"].items())),
            "hours": round(found["hours"], 4),
            "speakers": found["speakers"],
            "characters": found["characters"],
            "words": found["words"],
            "alphabet_size": len(corpus.alphabet) or "",
            "counts_file": corpus.counts,
        }
        for corpus, splits in counts
        for split, found in splits.items()
    ]
    return as_csv(CORPUS_COLUMNS, rows)
