"""Predictions against trials: made-up transfers whose answers are known."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from tests.exhibits.fakes import counts_of, run_record
from thaw.canonical import canonical_json
from thaw.config.schema import ScoringSpec
from thaw.errors import UserError
from thaw.exhibits.predictions import read_tried, verdicts
from thaw.exhibits.spec import EXHIBIT_VERSION, ExhibitSpec
from thaw.exhibits.write import write_exhibit
from thaw.files import write_json, write_jsonl
from thaw.layers.predictors import PREDICTORS
from thaw.scoring.measures import CHARACTER, WORD
from thaw.scoring.scores import score
from thaw.studies.layers import EXHIBITS

LAYERS = ("a", "b", "c", "d", "e", "f")
HARM = {"a": 0, "b": 2, "c": 4, "d": 6, "e": 8, "f": 10}  # word errors of 40 that freezing adds; with nothing frozen 10


def sets() -> dict[str, tuple[str, ...]]:
    single = {f"freeze-{layer}": (layer,) for layer in LAYERS}
    return {"freeze-none": (), **single, "freeze-first-3": LAYERS[:3], "freeze-last-3": LAYERS[-3:]}


def errors(frozen: tuple[str, ...], seed: int) -> int:
    return 10 + sum(HARM[layer] for layer in frozen) + seed % 2


def write_run(folder: Path, name: str, treatment: str, target: str, seed: int, wrong: int) -> dict[str, Any]:
    """One run with `wrong` of 40 words wrong, spread over four speakers."""
    share = [wrong // 4 + (place < wrong % 4) for place in range(4)]
    counts = counts_of({f"s{place}": (mine, 2 * mine) for place, mine in enumerate(share)})
    where = folder / f"{name}-ab12cd34ef"
    write_json(where / "scores.json", score(counts, ScoringSpec()), sealed=False)
    write_jsonl(where / "counts.jsonl", [row.row() for row in counts], sealed=False)
    write_json(where / "run.json", {**run_record(name, treatment, 6), "cost": {"seconds": 20.0}}, sealed=False)
    decode = {"id": name, "decoder": "greedy", "label": "greedy", "kind": "greedy"}
    decode |= {"scores": str(where / "scores.json"), "counts": str(where / "counts.jsonl")}
    row = {"id": where.name, "treatment": treatment, "label": treatment, "target": target, "target_label": target}
    return row | {"seed": seed, "scratch": False, "record": str(where / "run.json"), "decodes": [decode]}


def evidence(**scores: list[float]) -> dict[str, Any]:
    """Depth, and what else is given by layer."""
    known = {"depth": [1, 2, 3, 4, 5, 6], **scores}
    return {
        "layers": list(LAYERS),
        "scores": {name: dict(zip(LAYERS, map(float, values), strict=True)) for name, values in known.items()},
        "missing": {"churn": "not kept"},
        "cost": {"loading": 0.5, "features": 0.5, "resets": 4.0, "gradients": 9.0},
    }


def study(folder: Path, transfers: int = 3, seeds: tuple[int, ...] = (1, 2), **scores: list[float]) -> ExhibitSpec:
    """Transfers with the same harm, and evidence of each."""
    runs, rows = [], []
    for number in range(transfers):
        name = f"t{number}"
        made = {
            treatment: [
                write_run(folder, f"{name}-{treatment}-s{seed}", treatment, name, seed, errors(frozen, seed))
                for seed in seeds
            ]
            for treatment, frozen in sets().items()
        }
        runs += [run for group in made.values() for run in group]
        path = folder / f"{name}.json"
        write_json(path, evidence(**scores), sealed=False)
        tried = [
            {"treatment": treatment, "frozen": frozen, "runs": [run["id"] for run in made[treatment]]}
            for treatment, frozen in sets().items()
        ]
        rows.append({"name": name, "label": f"net, {name}", "model": "net", "layers": LAYERS, "tried": tried,
                     "evidence": str(path)})  # fmt: skip
    fields = {"study": "layers", "kind": "layers", "name": "table-predictions", "version": EXHIBIT_VERSION}
    fields |= {"config": "mini", "scale": "mini", "speech": "synthesised", "runs": runs, "transfers": rows}
    return ExhibitSpec.model_validate_json(canonical_json(fields))


RIGHT, WRONG = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]


def test_a_prediction_that_is_right_correlates_and_chooses_the_best(tmp_path: Path) -> None:
    tried = read_tried(study(tmp_path, rgn=RIGHT, rerand=WRONG, cka=WRONG), WORD)
    found = {one.predictor: one for one in verdicts(tried, 0.95)}
    assert [*found] == ["depth", "rerand", "rgn", "cka"]
    assert [found[name].rho.mean for name in found] == [1, -1, 1, 1]  # type: ignore[union-attr]  # cka: unlike is harm
    one = tried[0]
    assert one.effects.mean(axis=1).tolist() == pytest.approx([HARM[layer] / 40 for layer in LAYERS])
    assert one.p("rgn") == pytest.approx(2 / 720)
    assert (one.chosen("rgn", 1), one.chosen("rgn", 3)) == ("freeze-a", "freeze-first-3")
    assert (one.chosen("rerand", 1), one.chosen("rerand", 3)) == ("freeze-f", "freeze-last-3")
    # The best set freezes nothing, or a, which does no harm.
    assert one.regret("rgn", 1) == pytest.approx(0)
    assert one.regret("rgn", 3) == pytest.approx(6 / 40)
    assert one.regret("rerand", 3) == pytest.approx(24 / 40)
    assert one.regret_by_chance(1) == pytest.approx(5 / 40)
    assert one.regret_of(one.nothing) == pytest.approx(0)
    assert found["rgn"].beyond.mean == 0  # type: ignore[union-attr]
    assert one.reliability is not None
    assert one.reliability.mean == pytest.approx(1)


def test_costs_are_those_of_the_prediction_and_of_all_trials(tmp_path: Path) -> None:
    [one, *_] = read_tried(study(tmp_path, rgn=RIGHT, rerand=WRONG), WORD)
    assert one.seconds == 9 * 2 * 20.0
    assert (one.cost("depth"), one.cost("rgn"), one.cost("rerand")) == (0.0, 10.0, 5.0)


def test_what_a_transfer_lacks_is_left_out_of_the_mean_and_said(tmp_path: Path) -> None:
    spec = study(tmp_path, rgn=RIGHT)
    write_json(tmp_path / "t1.json", evidence(), sealed=False)
    [depth, rgn] = verdicts(read_tried(spec, WORD), 0.95)
    assert depth.rho is not None
    assert rgn.rho is not None
    assert (depth.rho.transfers, rgn.rho.transfers) == (3, 2)
    write_exhibit(spec, [tmp_path / "table.md"])
    assert "Churn in net, t0: not kept" in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize(("transfers", "seeds"), [(3, (1, 2)), (1, (1,))])
def test_both_exhibits_are_drawn_the_same_each_time(tmp_path: Path, transfers: int, seeds: tuple[int, ...]) -> None:
    spec = study(tmp_path, transfers, seeds, rgn=RIGHT, rerand=[1, 1, 1, 1, 1, 1])
    for name, exhibit in EXHIBITS.items():
        trimmed = spec.model_copy(update={"name": name}).trimmed(exhibit.needs)
        files = [tmp_path / f"{name}.{suffix}" for suffix in exhibit.suffixes]
        write_exhibit(trimmed, files)
        first = [file.read_bytes() for file in files]
        write_exhibit(trimmed, files)
        assert [file.read_bytes() for file in files] == first
        assert set(trimmed.files()) >= {row.evidence for row in spec.transfers}
    rows = [*csv.DictReader((tmp_path / "table-predictions.csv").open())]
    of = [row for row in rows if row["measure"] == WORD.heading]
    harm = {row["layer"]: float(row["value"]) for row in of if row["row"] == "harm" and row["transfer"] == "t0"}
    assert harm["d"] == pytest.approx(15)  # 6 of 40 words
    assert {row["predictor"] for row in of if row["row"] == "predictor"} == {"depth", "rerand", "rgn"}
    assert {row["measure"] for row in rows} == {WORD.heading, CHARACTER.heading}
    text = (tmp_path / "table-predictions.md").read_text()
    assert "mini scale" in text
    assert ("One transfer: nothing is known of others" in text) == (transfers == 1)
    assert PREDICTORS["rgn"].label in text


def test_files_of_another_shape_are_one_line(tmp_path: Path) -> None:
    spec = study(tmp_path, 1, rgn=RIGHT)
    write_json(tmp_path / "t0.json", {"layers": ["a"], "scores": {"depth": {"b": 1}}, "cost": {}}, sealed=False)
    with pytest.raises(UserError, match=r"t0\.json: not what `thaw evidence` writes"):
        read_tried(spec, WORD)
    write_json(tmp_path / "t0.json", {**evidence(), "layers": ["a"], "scores": {"depth": {"a": 1}}}, sealed=False)
    with pytest.raises(UserError, match="nothing to correlate"):
        read_tried(spec, WORD)
    with pytest.raises(UserError, match="has no transfers"):
        read_tried(spec.model_copy(update={"transfers": ()}), WORD)
