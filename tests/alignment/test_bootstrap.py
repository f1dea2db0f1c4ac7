"""From tones and their letters to a model and the state of every frame: what must hold of every bootstrap."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.alignment.toy import EDGE, SECONDS, SPEC, lexicon, lexicon_file, tone_words
from thaw.alignment import acoustic, making, viterbi
from thaw.alignment.bootstrap import Moment, bootstrap, draw, usable
from thaw.alignment.frames import MIDDLE, SHIFT, frames_of
from thaw.alignment.fsts import lexicon_fst, symbols
from thaw.alignment.lexicon import Lexicon
from thaw.alignment.making import make
from thaw.alignment.manifests import align_manifest
from thaw.alignment.mfcc import DIMENSION, cepstra, with_deltas
from thaw.alignment.share import CHUNK
from thaw.alignment.states import Alignment, read_alignment
from thaw.alignment.tree import PLACES
from thaw.alignment.viterbi import Graphs
from thaw.config.alignment import AlignmentSpec
from thaw.corpora.manifest import Utterance, read_manifest
from thaw.errors import UserError
from thaw.files import read_json, read_jsonl, read_rejects, write_jsonl


@dataclasses.dataclass
class Made:
    """A finished alignment of a corpus of tones."""

    folder: Path
    splits: dict[str, Path]
    record: dict[str, object]

    def read(self, split: str) -> Alignment:
        return read_alignment(self.folder / "out" / f"{split}.safetensors", self.splits[split])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("alignment")
    splits = {"train": tone_words(folder, "train", 40), "dev": tone_words(folder, "dev", 5)}
    record = make(SPEC, lexicon_file(folder), splits, folder / "out", folder / "state")
    return Made(folder, splits, record)


def model_bytes(moment: Moment) -> list[bytes]:
    mixtures = moment.model.mixtures
    arrays = (mixtures.first, mixtures.weights, mixtures.means, mixtures.variances, moment.model.transitions)
    return [moment.model.tree, *(array.tobytes() for array in arrays)]


def test_the_likelihood_rises_at_every_iteration(made: Made) -> None:
    rows = made.record["iterations"]
    assert isinstance(rows, list)
    assert [row["iteration"] for row in rows] == [*range(1, 7), *range(1, 6)]
    for stage in ("monophone", "triphone"):
        values = [row["log_likelihood"] for row in rows if row["stage"] == stage]
        assert all(later > before for before, later in itertools.pairwise(values)), values
        assert all(row["failed"] == 0 for row in rows)


def test_every_frame_has_a_state_and_every_phone_of_the_lexicon_its_time(made: Made) -> None:
    for split, manifest in made.splits.items():
        alignment = made.read(split)
        for utterance in read_manifest(manifest):
            states = alignment[utterance.id]
            assert len(states) == frames_of(utterance.samples)
            assert states.min() >= 0
            assert states.max() < alignment.num_states
            phones = alignment.phones(utterance.id)
            assert sum(length for _, length in phones) == len(states)
            assert [phone for phone, _ in phones if phone != "SIL"] == list(utterance.text.replace(" ", ""))
    assert made.read("train").num_states > 15  # more than the monophones have
    assert made.record["num_states"] == made.read("train").num_states


def boundary_errors(alignment: Alignment, utterances: list[Utterance]) -> Iterator[float]:
    """Seconds between where a tone begins, and the middle of the frame where its phone does."""
    for utterance in utterances:
        true, now = [], EDGE / 16000
        for letter in utterance.text:
            if letter != " ":
                true.append(now)
            now += SECONDS[letter]
        found, frame = [], 0
        for phone, length in alignment.phones(utterance.id):
            if phone != "SIL":
                found.append((frame * SHIFT + MIDDLE - SHIFT / 2) / 16000)
            frame += length
        yield from (abs(a - b) for a, b in zip(true, found, strict=True))


def test_phones_begin_where_their_tones_do(made: Made) -> None:
    errors = list(boundary_errors(made.read("dev"), read_manifest(made.splits["dev"])))
    assert np.median(errors) < 0.015
    assert np.mean(np.array(errors) < 0.05) > 0.9


def test_any_number_of_processes_gives_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    utterances = read_manifest(tone_words(tmp_path, "train", CHUNK + 12))
    small = AlignmentSpec(mono_iterations=2, mono_gaussians=15, iterations=2, leaves=16, gaussians=18)
    one, two = (bootstrap(small, utterances, lexicon(), processes) for processes in (1, 2))
    assert model_bytes(one) == model_bytes(two)
    assert one.log == two.log


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    utterances = read_manifest(tone_words(tmp_path, "train", 20))
    moments: list[Moment] = []
    whole = bootstrap(SPEC, utterances, lexicon(), keep=moments.append)
    assert {moment.stage for moment in moments} == {"monophone", "triphone"}
    for moment in moments[1::2]:
        again = bootstrap(SPEC, utterances, lexicon(), resume=moment)
        assert model_bytes(again) == model_bytes(whole)
        assert again.log == whole.log


def test_a_killed_job_aligns_only_what_is_left(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, out = tmp_path / "state", tmp_path / "out"
    monkeypatch.setattr(making, "write_rejects", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    lexicon_path = made.folder / "lexicon.txt"
    with pytest.raises(KeyboardInterrupt):
        make(SPEC, lexicon_path, made.splits, out, state)
    monkeypatch.undo()
    monkeypatch.setattr("thaw.alignment.manifests.align", lambda *_: pytest.fail("aligned again"))
    monkeypatch.setattr("thaw.alignment.share.align", lambda *_: pytest.fail("trained again"))
    record = make(SPEC, lexicon_path, made.splits, out, state)
    assert record == made.record
    for name in ("gmm.safetensors", "train.safetensors", "dev.safetensors"):
        assert (out / name).read_bytes() == (made.folder / "out" / name).read_bytes()
    assert not state.exists()


def test_what_cannot_be_aligned_is_rejected_with_its_reason(made: Made, tmp_path: Path) -> None:
    rows = read_jsonl(made.splits["dev"])
    rows[0]["text"] = "ab zebra"  # not in the lexicon
    rows[1]["text"] = " ".join(["bcd"] * 60)  # more phones than its frames can hold
    dev = made.splits["dev"].with_name("broken.jsonl")
    write_jsonl(dev, rows)
    out = tmp_path / "out"
    record = make(SPEC, made.folder / "lexicon.txt", {"train": made.splits["train"], "dev": dev}, out, tmp_path / "s")
    rejects = read_rejects(out / "rejects.tsv")
    assert [(one.id, one.room, one.reason) for one in rejects] == [
        (rows[0]["id"], "align", "a word without a pronunciation"),
        (rows[1]["id"], "align", "shorter than its phones"),
    ]
    assert rejects[0].detail == "zebra"
    assert read_json(out / "alignment.json")["splits"]["dev"]["rejected"] == 2 == record["splits"]["dev"]["rejected"]
    assert rows[0]["id"] not in read_alignment(out / "dev.safetensors", dev)


def test_kaldis_silence_about_a_failure_is_no_path(made: Made) -> None:
    """Its aligner raises nothing where an utterance has too few frames for its words: it has done none of one."""
    model, _ = acoustic.load(made.folder / "out" / "gmm.safetensors")
    numbers = symbols(model.phones[1:], lexicon())
    graph = Graphs(model.hmm, lexicon_fst(lexicon(), numbers)).compile([numbers.word["bcd"]] * 3)
    short = np.zeros((PLACES * 9 - 1, DIMENSION), np.float32)  # for three words of three phones
    assert viterbi.align(model, graph, short) is None
    utterance = read_manifest(made.splits["dev"])[0]
    features = with_deltas(cepstra(utterance.pcm()))
    graph = Graphs(model.hmm, lexicon_fst(lexicon(), numbers)).compile(
        [numbers.word[w] for w in utterance.text.split()]
    )
    path = viterbi.align(model, graph, features)
    assert path is not None
    assert len(path) == len(features)


def test_an_utterance_without_a_path_is_a_reject(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [utterance.id for utterance in read_manifest(made.splits["dev"])]
    calls: list[int] = []

    def fails_once(*arguments: Any) -> Any:
        calls.append(1)
        return None if len(calls) == 2 else viterbi.align(*arguments)

    monkeypatch.setattr("thaw.alignment.manifests.align", fails_once)
    pieces = align_manifest(
        made.splits["dev"], "dev", made.folder / "out/gmm.safetensors", made.folder / "lexicon.txt", tmp_path
    )
    assert [id for id, _ in pieces.rows()] == [ids[0], *ids[2:]]
    assert [(one.id, one.split, one.reason) for one in pieces.rejects] == [(ids[1], "dev", "no alignment")]


def test_nothing_to_train_on_says_why(tmp_path: Path) -> None:
    train = tone_words(tmp_path, "train", 3)
    kept, rejects = usable(read_manifest(train), Lexicon({"zebra": (("z",),)}), "train")
    assert not kept
    assert len(rejects) == 3
    (tmp_path / "lexicon.txt").write_text("zebra\tz\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"no utterance can be aligned; the commonest reason: a word without a pron"):
        make(SPEC, tmp_path / "lexicon.txt", {"train": train}, tmp_path / "out", tmp_path / "state")


def test_the_hours_that_a_gmm_is_trained_on_are_drawn_and_nested(tmp_path: Path) -> None:
    utterances = read_manifest(tone_words(tmp_path, "train", 30))
    whole = sum(each.seconds for each in utterances) / 3600
    assert draw(utterances, 2 * whole, seed=1) == utterances
    some, more = (draw(utterances, share * whole, seed=1) for share in (0.3, 0.6))
    assert 0.2 * whole < sum(each.seconds for each in some) / 3600 <= 0.3 * whole
    assert set(some) < set(more)
    assert [each.id for each in more] == sorted(each.id for each in more)
    assert some != draw(utterances, 0.3 * whole, seed=2)
    assert len(draw(utterances, 1e-9, seed=1)) == 1  # never none
