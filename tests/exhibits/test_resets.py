"""Cells of resets: what a row of a probe is of, penalties of the same trainings, ranks and how far seeds agree."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from thaw.errors import UserError
from thaw.exhibits import reset_findings
from thaw.exhibits.churn import ChurnFigure, read_churn, titles
from thaw.exhibits.criticality import agreement, draw_modules, draw_ranks, draw_steps, ranks, whole_layers
from thaw.exhibits.resets import ResetPlace, mean_counts, place_of, read_resets
from thaw.exhibits.spec import EXHIBIT_VERSION, ExhibitSpec, ProbeRow, RunRow
from thaw.files import write_json, write_jsonl
from thaw.probing.rows import measures
from thaw.randomness import rng
from thaw.scoring.counts import UtteranceCounts
from thaw.scoring.edits import Edits
from thaw.scoring.paired import DIFFERENCE, differences, mean_over, paired
from thaw.scoring.statistics import Sample, difference, seed_noise

STACK = ("subsampling", "block_1", "block_2", "block_3", "output")
WORSE = {"": 0.1, "subsampling": 0.8, "block_1": 0.6, "block_2": 0.105, "block_3": 0.3, "output": 0.9}
SPEAKERS, EACH, WORDS = 6, 5, 10


def counts(rate: float, *place: str | int) -> list[UtteranceCounts]:
    """Of every utterance: about `rate` of its words wrong."""
    random = rng("resets", *place)
    rows = []
    for speaker in range(SPEAKERS):
        for number in range(EACH):
            wrong = int(random.binomial(WORDS, rate))
            rows.append(UtteranceCounts(f"u{speaker}-{number}", f"s{speaker}", {"word": Edits(sub=wrong, ref=WORDS)}))
    return rows


def operations() -> dict[str, list[dict[str, Any]]]:
    early = {"load": [*STACK], "snapshot": "epoch-2"}
    found: dict[str, list[dict[str, Any]]] = {
        "epoch-2-none": [early], "none": [],
        "block_1-conv": [{"reset": ["block_1"], "seed": 101, "modules": ["conv"]}],
    }  # fmt: skip
    for layer in STACK:
        found[f"{layer}-first"] = [{"reset": [layer], "to": "first"}]
        for draw in (101, 102):
            found[f"{layer}-draw-{draw}"] = [{"reset": [layer], "seed": draw}]
    return found


def probed_run(folder: Path, seed: int) -> RunRow:
    """A run whose layers are as critical as WORSE says; re-init costs half of what re-rand does."""
    rows, by_utterance = [], []
    for name, done in operations().items():
        layer = done[0]["reset"][0] if done and "reset" in done[0] else ""
        rate = WORSE[layer] if not name.endswith("first") else (WORSE[layer] + WORSE[""]) / 2
        rate = 0.7 if name == "epoch-2-none" else rate
        mine = counts(rate, seed, name)
        place = {"name": name, "split": "test"}
        rows.append({**place, "snapshot": "best", "operations": done, "utterances": 30, "measures": measures(mine)})
        by_utterance += [place | one.row() for one in mine]
    files = {key: str(folder / f"{key}-{seed}") for key in ("rows", "counts", "record")}
    write_jsonl(Path(files["rows"]), rows)
    write_jsonl(Path(files["counts"]), by_utterance)
    moved = [{"snapshot": "best", "layer": layer, "module": "ff1.w1", "norm": float(number), "first": 2.0}
             for number, layer in enumerate(STACK[1:4], 1)]  # fmt: skip
    write_json(Path(files["record"]), {"churn": moved})
    traits = {"variant": "S", "norm": "group", "norm_groups": "8", "first": "attention", "causal": "False"}
    return RunRow(
        id=f"run-{seed}", treatment="s", label="S", target="english", target_label="English", seed=seed, recipe="r",
        probes=(ProbeRow(name="layers", churn=True, **files),), stack=STACK, traits=traits,
    )  # fmt: skip


@pytest.fixture
def spec(tmp_path: Path) -> ExhibitSpec:
    runs = tuple(probed_run(tmp_path, seed) for seed in (1, 2, 3))
    return ExhibitSpec(
        study="ambient", kind="ambient", name="table-ranks", version=EXHIBIT_VERSION, config="toy", scale="mini",
        speech="synthesised", runs=runs,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("done", "place"),
    [
        ([], ResetPlace()),
        ([{"reset": ["a"], "seed": 7}], ResetPlace(to="draw", layer="a")),
        ([{"reset": ["a"], "to": "first", "buffers": False}], ResetPlace(to="first", layer="a", buffers=False)),
        ([{"reset": ["a"], "seed": 7, "modules": ["conv"]}], ResetPlace(to="draw", layer="a", module="conv")),
        ([{"load": ["a", "b"], "snapshot": "epoch-2"}], ResetPlace("epoch-2")),
        (
            [{"load": ["a", "b"], "snapshot": "epoch-2"}, {"reset": ["b"], "seed": 1}],
            ResetPlace("epoch-2", "draw", "b"),
        ),
        ([{"reset": ["a", "b"], "seed": 7}], None),
        ([{"reset": ["a"], "seed": 7}, {"reset": ["b"], "seed": 7}], None),
    ],
)
def test_what_a_row_is_of(done: list[dict[str, Any]], place: ResetPlace | None) -> None:
    assert place_of({"snapshot": "best", "operations": done}) == place


def test_draws_of_one_training_count_as_their_mean(spec: ExhibitSpec) -> None:
    cells = {cell.place: cell for cell in read_resets(spec)}
    one = cells[ResetPlace(to="draw", layer="block_1")].probed[0]
    assert one.draws == 2
    both = [counts(WORSE["block_1"], 1, f"block_1-draw-{draw}") for draw in (101, 102)]
    total = sum(count.counts["word"].errors for draw in both for count in draw) / 2
    assert sum(count.counts["word"].errors for count in one.counts) == total
    assert [count.id for count in mean_counts(both)] == sorted(count.id for count in both[0])


def test_penalties_are_of_the_same_trainings(spec: ExhibitSpec) -> None:
    cells = {cell.place: cell for cell in read_resets(spec)}
    base, cell = cells[ResetPlace()], cells[ResetPlace(to="draw", layer="block_3")]
    assert base.penalty is None
    assert cell.penalty is not None
    assert cell.penalty.comparison.difference == pytest.approx(cell.estimate.rate - base.estimate.rate)
    assert cell.penalty.p is not None
    assert cell.penalty.p < 0.05
    small = cells[ResetPlace(to="draw", layer="block_2")].penalty
    assert small is not None
    assert small.p is not None
    assert small.p > 0.05


def test_seeds_that_differ_alike_before_and_after_are_no_noise() -> None:
    """Two trainings of very different rates, each worse by the same: paired, that is sure; unpaired, it is not."""

    def sample(seed: int, rate: int, more: int) -> Sample:
        rows = [UtteranceCounts(f"u{n}", f"s{n}", {"word": Edits(sub=rate + more + n % 2, ref=20)}) for n in range(8)]
        return Sample(seed, tuple(rows))

    before, after = ([sample(1, 2, more), sample(2, 9, more)] for more in (0, 3))
    change = differences(before, after, "word")
    test = paired(change, ExhibitSpec.model_fields["scoring"].default, seed_noise([change], DIFFERENCE))
    assert test.difference == pytest.approx(0.15)
    assert test.p is not None
    assert test.p < 0.05
    noise = seed_noise([before, after], "word")
    unpaired = difference(before, after, "word", ExhibitSpec.model_fields["scoring"].default, noise)
    assert unpaired.p is not None
    assert unpaired.p > 0.2
    assert mean_over([change, change])[0].column(DIFFERENCE).tolist() == change[0].column(DIFFERENCE).tolist()
    with pytest.raises(UserError, match="not of the same trainings"):
        differences(before[:1], after, "word")


def test_ranks_and_how_far_seeds_agree(spec: ExhibitSpec) -> None:
    found = ranks(whole_layers(read_resets(spec), "draw"))
    assert set(found) == {1, 2, 3}
    assert found[1]["output"] == 1.0
    assert found[1]["block_2"] == 5.0
    agreed = agreement(found)
    assert agreed is not None
    assert agreed > 0.8
    assert agreement({1: found[1]}) is None
    assert agreement({1: {"a": 1.5, "b": 1.5}, 2: {"a": 1.0, "b": 2.0}}) is None  # all tied: no order to agree on


def test_the_table_marks_what_is_ambient(spec: ExhibitSpec) -> None:
    drawn = draw_ranks(spec)
    table = json.loads(drawn["json"])
    (block,) = table["blocks"]
    rows = {row[0]["text"]: row for row in block["rows"]}
    assert rows["block_2"][1]["mark"] == "a" or "block_2" not in rows
    assert rows["output"][1]["mark"] == ""
    assert rows["output"][1]["bold"]
    values = list(csv.DictReader(io.StringIO(drawn["csv"].decode())))
    assert {row["reset"] for row in values} == {"as trained", "re-rand", "re-init"}
    assert len([row for row in values if row["row"] == "run"]) == 3 * (1 + 2 * len(STACK))


@pytest.mark.parametrize(("seeds", "said", "agree"), [(1, "one random seed", 0), (2, "2 random seeds", 2)])
def test_with_few_seeds_the_table_says_so(spec: ExhibitSpec, seeds: int, said: str, agree: int) -> None:
    """With two, ranks have a spread and one pair to agree; with one, neither, and no p."""
    (block,) = json.loads(draw_ranks(spec.model_copy(update={"runs": spec.runs[:seeds]}))["json"])["blocks"]
    assert f", {said}. Penalty" in block["notes"][0]
    assert sum("between seeds" in note for note in block["notes"]) == agree
    penalty, rank = (block["rows"][0][column]["text"] for column in (1, 2))
    assert ("±" in rank, "(" in penalty) == (seeds > 1, seeds > 1)
    assert any("Holm" in note or "Bold" in note for note in block["notes"]) == (seeds > 1)


def test_churn_is_over_the_largest_of_a_module(spec: ExhibitSpec) -> None:
    rows = {(one.run.seed, one.layer): one for one in read_churn(spec)}
    assert [rows[2, layer].churn for layer in STACK[1:4]] == [1 / 3, 2 / 3, 1.0]
    drawn = ChurnFigure("Churn").draw(spec)
    (row, *_) = csv.DictReader(io.StringIO(drawn["csv"].decode()))
    assert (row["norm_moved"], row["norm_first"], row["relative"]) == ("1", "2", "0.5")
    title, note = titles(spec, "Churn", read_churn(spec))
    assert (title, "band: lowest and highest" in note) == ("Churn: S", True)
    one = spec.model_copy(update={"runs": spec.runs[:1]})
    assert titles(one, "Churn", read_churn(one))[1].endswith("one training, and true of that alone")


def test_a_study_without_probes_says_so(spec: ExhibitSpec) -> None:
    bare = tuple(run.model_copy(update={"probes": ()}) for run in spec.runs)
    with pytest.raises(UserError, match="no probed run"):
        read_resets(spec.model_copy(update={"runs": bare}))


def test_findings_are_of_the_best_epoch(spec: ExhibitSpec) -> None:
    """An earlier snapshot, which stands before it in the file, is another matter."""
    (part,) = json.loads(reset_findings.draw(spec, "A paper", "It found.")["json"])["parts"]
    assert part["sentences"][0].startswith("As trained: WER 1")
    assert "most critical is output" in part["sentences"][1]
    assert "1 of 5 layers (block_2)" in part["sentences"][1]
    assert part["sentences"][-1].startswith("Re-init against re-rand, mean over layers: −")


def test_steps_and_modules_have_tables_of_their_own(spec: ExhibitSpec) -> None:
    steps = json.loads(draw_steps(spec)["json"])["blocks"][0]
    assert [column["group"] or column["title"] for column in steps["columns"]] == ["epoch-2", "best"]
    modules = json.loads(draw_modules(spec)["json"])["blocks"]
    assert [block["title"] for block in modules] == ["S: re-rand"]
    assert "over all 1 tests of the block" in modules[0]["notes"][0]
