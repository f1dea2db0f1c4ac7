"""The verbs from manifests to scores, in processes of their own: equal bytes, and mistakes in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.alignment.toy import ALPHABET, SPEC, lexicon_file, tone_words
from thaw.cli import main
from thaw.errors import EXIT_USER_ERROR

CALLS = """
import sys, json
from thaw.cli import main
for call in json.loads(sys.argv[1]):
    assert main(call) == 0, call
"""
TEXT = json.dumps({"alphabet": ALPHABET})


def calls(folder: Path, out: Path) -> list[list[str]]:
    """Lexicon, alignment, graph, hypotheses and scores of the tones in `folder`."""
    manifests = {split: str(folder / f"{split}.jsonl") for split in ("train", "dev", "test")}
    own = json.dumps({"kind": "file", "path": str(folder / "lexicon.txt"), "phones": list("abcd")})
    gmm, graph, lexicon = (str(out / name) for name in ("gmm.safetensors", "graph/graph.fst", "lexicon.txt"))
    splits = [word for split, path in manifests.items() for word in (f"--{split}", path)]
    return [
        ["lexicon", "--lexicon", own, "--manifest", *manifests.values(), "--out", lexicon],
        ["align", "--alignment", SPEC.model_dump_json(), "--lexicon", lexicon, *splits, "--out", str(out)],
        ["graph", "--text", TEXT, "--train", manifests["train"], "--model", gmm, "--lexicon", lexicon, "--out", graph],
        [
            *("gmm", "--search", '{"scales":[0.05,0.1]}', "--model", gmm, "--graph", graph),
            *("--manifest", manifests["test"], "--tune-on", manifests["dev"]),
        ],
    ]


def arguments(folder: Path, out: Path) -> list[list[str]]:
    """The same, with what each writes beside."""
    lexicon, align, graph, gmm = calls(folder, out)
    hypotheses = str(out / "hypotheses.jsonl")
    return [
        [*lexicon, "--record", str(out / "lexicon.json")],
        [*align, "--state", str(out / "state")],
        graph,
        [*gmm, "--hypotheses", hypotheses, "--record", str(out / "decode.json")],
        ["score", "--hypotheses", hypotheses, "--scores", str(out / "scores.json"), "--counts", str(out / "c.jsonl")],
    ]


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    for split, count in (("train", 40), ("dev", 4), ("test", 8)):
        tone_words(tmp_path, split, count)
    lexicon_file(tmp_path)
    return tmp_path


def test_tones_are_recognised_and_another_process_writes_the_same_bytes(tones: Path) -> None:
    outs = []
    for seed in ("1", "2"):  # of Python's own hashes, which order its sets
        out = tones / seed
        outs.append(out)
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        words = json.dumps(arguments(tones, out))
        done = subprocess.run([sys.executable, "-c", CALLS, words], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "kaldilm" not in done.stderr  # what the library says past Python
    scores = json.loads((outs[0] / "scores.json").read_text())
    assert scores["word"]["rate"] < 0.1
    record = json.loads((outs[0] / "decode.json").read_text())
    assert record["scale"] in (0.05, 0.1)
    assert record["references"] == {"oov_words": 0, "oov_rate": 0.0}
    names = ["lexicon.txt", "gmm.safetensors", "train.safetensors", "test.safetensors", "alignment.json"]
    for name in (*names, "graph/graph.fst", "graph/words.txt", "graph/graph.json", "hypotheses.jsonl"):
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes(), name


def said(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    assert main(words) == EXIT_USER_ERROR
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    return error


def test_mistakes_are_one_line_each(tones: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lexicon, align, graph, gmm, _ = arguments(tones, tones / "out")
    own = tones / "lexicon.txt"
    good = own.read_text()
    own.write_text(good + "dda\td dd a\n")
    (tones / ".lexicon.txt.sha256").unlink()
    assert "lexicon.txt:6: 'dda' has the phone 'dd'; did you mean 'd'? allowed: a, b, c, d" in said(capsys, lexicon)
    own.write_text("zz\tz\n")
    (tones / "out").mkdir()
    (tones / "out" / "lexicon.txt").write_text("zz\tz\n")
    assert "no utterance can be aligned; the commonest reason: a word without a pronunciation" in said(capsys, align)
    own.write_text(good)
    (tones / "out" / "lexicon.txt").write_text(good)
    assert main(align) == 0
    (tones / "out" / "lexicon.txt").write_text("ab\tz z\n")
    assert "no word of the text that the acoustic model can say (its phones: z)" in said(capsys, graph)
    assert "graph.fst: no such file" in said(capsys, gmm)
    (tones / "out" / "lexicon.txt").write_text(good.replace("ba\tb a", "ba\tz"))
    capsys.readouterr()
    assert main(graph) == 0
    assert "1 words of the text have no pronunciation that the model can say (phones unknown to it: z)" in (
        capsys.readouterr().out
    )
