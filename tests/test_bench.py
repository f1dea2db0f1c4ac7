"""Benches run, at toy size, and one that fails hides no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from bench.__main__ import BENCHES
from bench._cases import CASES
from bench._document import block, names_in, replaced
from bench._traffic import Counter
from bench.before import bits_of
from bench.freezing import CLASSES, predicted
from bench.gpu import why
from bench.limits import Machine, Shares, Steps, bound, shares_of

from thaw.config.models import ModelSpec
from thaw.config.run import RunRecipe
from thaw.files import write_json, write_jsonl
from thaw.frontends import dimension
from thaw.models import build, save_tensors

RUN = {"version": 1, "alphabet": " a", "corpora": ["noise"], "seed": 1, "recipe": {"epochs": 1}}
REPOSITORY = Path(__file__).resolve().parents[1]
QUICK = ("audio", "augment", "converters", "decoding", "freezing", "overhead", "probing", "throughput", "waiting")


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_every_bench_is_run() -> None:
    assert set(BENCHES) == {path.stem for path in (REPOSITORY / "bench").glob("[!_]*.py")}


def test_each_says_what_it_found_beside_its_aim(tmp_path: Path) -> None:
    done = bench(*QUICK, "--toy", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = done.stdout.split("== what they found, at toy size\n")[1].splitlines()
    assert {line.split()[0] for line in found} == set(QUICK)
    assert all("(aim: at " in line for line in found), found
    assert {path.stem for path in tmp_path.iterdir()} == set(QUICK)


@pytest.mark.e2e
@pytest.mark.parametrize("name", sorted(set(BENCHES) - set(QUICK)))
def test_long_ones_run_too(name: str, tmp_path: Path) -> None:
    done = bench(name, "--toy", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(aim: at " in done.stdout.split("== what they found, at toy size\n")[1]


def test_one_that_fails_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    for name in ("__main__", "_document", "_verdict"):
        text = (REPOSITORY / "bench" / f"{name}.py").read_text()
        (tmp_path / "bench" / f"{name}.py").write_text(text)
    (tmp_path / "bench" / "audio.py").write_text("raise SystemExit(3)")
    verdict = "from bench._verdict import verdict\nverdict('a ratio', 2.5, most=2)"
    (tmp_path / "bench" / "augment.py").write_text(verdict)
    command = [sys.executable, "-m", "bench", "audio", "augment"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env={"PATH": ""})
    assert done.returncode == 1
    assert done.stdout.split("== what they found\n")[1].splitlines() == [
        "audio       FAILED with status 3: see results/bench/audio.txt",
        "augment     a ratio: 2.5 (aim: at most 2; MISSED)",
    ]


# --- documents ------------------------------------------------------------------------------------


def test_what_a_bench_prints_takes_the_place_of_what_a_document_says(tmp_path: Path) -> None:
    document = tmp_path / "speed.md"
    document.write_text("One.\n\n<!-- bench audio -->\nold\n<!-- end audio -->\n\nTwo.\n")
    done = bench("audio", "--toy", "--out", tmp_path / "out", "--write", document)
    assert done.returncode == 0, done.stdout + done.stderr
    text = document.read_text()
    assert "old" not in text
    assert text.startswith("One.\n\n<!-- bench audio -->\n\n`python -m bench.audio --clips 4 --rounds 1`: ")
    assert text.endswith("\n<!-- end audio -->\n\nTwo.\n")
    printed = (tmp_path / "out" / "audio.txt").read_text().splitlines()
    assert all(line.replace("verdict: ", "- ") in text for line in printed)


def test_only_the_named_block_changes() -> None:
    text = "<!-- bench a -->\n1\n<!-- end a -->\n<!-- bench b -->\n2\n<!-- end b -->\n"
    new, missing = replaced(text, {"b": block(r"a \1 figure" + "\nverdict: x: 1 (aim: at most 2)\n", "here"), "c": "3"})
    assert missing == ["c"]
    assert names_in(new) == ["a", "b"]
    assert new.split("<!-- bench b -->")[0] == text.split("<!-- bench b -->")[0]
    assert "here.\n\n```text\na \\1 figure\n```\n\n- x: 1 (aim: at most 2)\n" in new


def test_a_document_that_is_not_there_is_missed_before_anything_runs(tmp_path: Path) -> None:
    done = bench("audio", "--toy", "--out", tmp_path / "out", "--write", tmp_path / "sped.md")
    assert done.returncode == 2
    assert f"--write {tmp_path / 'sped.md'}: no such file" in done.stderr
    assert not (tmp_path / "out").exists()


def test_documents_hold_what_benches_that_exist_have_printed() -> None:
    blocks: list[str] = []
    for path in sorted((REPOSITORY / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        names = names_in(text)
        assert set(names) <= set(BENCHES), path
        assert len(names) == len(set(names)) == text.count("<!-- end "), path
        for name in names:
            printed = text.split(f"<!-- bench {name} -->")[1].split(f"<!-- end {name} -->")[0]
            assert printed.strip(), f"{path}: nothing of {name}"
        blocks += names
    assert {"speed.md", "features.md"} <= {path.name for path in (REPOSITORY / "docs").glob("*.md")}
    assert {"limits", "before", "waiting"} <= set(blocks)


# --- models ---------------------------------------------------------------------------------------


def test_speeds_are_measured_of_every_kind_of_model() -> None:
    union = get_args(get_args(ModelSpec)[0])
    kinds = {get_args(model.model_fields["kind"].annotation)[0] for model in union}
    assert {case.model(size)["kind"] for case in CASES.values() for size in ("mini", "published")} == kinds


@pytest.mark.parametrize(
    ("plain", "per_frame"),
    [({"kind": "deepspeech", "hidden": 32}, 1), ({"kind": "quartznet", "variant": "mini-3x1"}, 2)],
)
def test_counted_multiplications_are_those_of_the_formulas(plain: dict[str, Any], per_frame: int) -> None:
    spec = RunRecipe.model_validate({**RUN, "model": plain}).model
    model = build(spec, CLASSES)
    model.initialise(1)
    frames, batch = 48, 3  # QuartzNet pads to 16
    x = torch.randn(batch, frames, dimension(spec.frontend))
    with Counter() as counter:
        logits, _ = model.train()(x, torch.full((batch,), frames))
        logits.sum().backward()
    expected = 2 * predicted(spec, ()) * batch * frames / per_frame
    # The formula takes a layer as one sum: it has no gradient for what the first layer's own two halves pass on.
    assert counter.flops == pytest.approx(expected, rel=0.02)


# --- what benches compute -------------------------------------------------------------------------


def outputs_in(folder: Path, weight: float, rows: list[dict[str, Any]]) -> dict[str, Path]:
    """What a training leaves, as far as benches read it."""
    names = ("model.safetensors", "metrics.jsonl", "run.json")
    outputs = {name: folder / name for name in names}
    folder.mkdir(exist_ok=True)
    save_tensors(outputs["model.safetensors"], {"w": torch.tensor([1.0, weight])}, {})
    write_jsonl(outputs["metrics.jsonl"], rows)
    write_json(outputs["run.json"], {"cost": {"seconds": 4.0, "saving_seconds": 0.4}})
    return outputs


def test_bits_are_those_of_weights_and_losses_and_no_clock(tmp_path: Path) -> None:
    row = {"epoch": 1, "train_loss": 2.0, "step_seconds": 0.1}
    first = bits_of(outputs_in(tmp_path / "a", 2.0, [row]))
    assert bits_of(outputs_in(tmp_path / "b", 2.0, [{**row, "step_seconds": 0.2, "data_seconds": 0.1}])) == first
    assert bits_of(outputs_in(tmp_path / "c", 2.0, [{**row, "train_loss": 2.0000001}])) != first
    nearly = float(torch.tensor(2.0).nextafter(torch.tensor(3.0)))
    assert bits_of(outputs_in(tmp_path / "d", nearly, [row])) != first


def test_shares_are_those_of_the_whole_training(tmp_path: Path) -> None:
    rows = [
        {"step": 2, "step_seconds": 0.5, "data_seconds": 0.1},
        {"step": 4, "step_seconds": 0.5, "data_seconds": 0.1},
    ]
    shares = shares_of(outputs_in(tmp_path, 1.0, rows))
    assert (shares.data, shares.saving, shares.rest) == pytest.approx((0.1, 0.1, 0.4))


@pytest.mark.parametrize(
    ("matrix", "host", "data", "named"),
    [(0.6, 0.1, 0.0, "compute"), (0.2, 0.1, 0.0, "bandwidth"), (0.2, 0.7, 0.0, "host"), (0.6, 0.1, 0.5, "data")],
)
def test_what_takes_the_most_of_a_training_bounds_it(matrix: float, host: float, data: float, named: str) -> None:
    steps = Steps(100, 1e6, 1e6, Machine(1e9, 1e9), 0.1, 0.1, 1.0, matrix, host, "mm")
    assert bound(steps, Shares(data, 0.05, 0.05)) == named


def test_an_operation_that_refuses_is_named() -> None:
    error = RuntimeError("ctc_loss_backward_gpu does not have a deterministic implementation, but you set …")
    assert why(error) == "refused: ctc_loss_backward_gpu"
    assert why(ValueError("no\nmore")) == "ValueError: no"
