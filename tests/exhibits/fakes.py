"""Made-up runs with plausible numbers: all files of a study, written in the formats the other rooms write.

Run by hand to look at the pictures: python -m tests.exhibits.fakes FOLDER
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thaw.canonical import canonical_json
from thaw.config.schema import ScoringSpec
from thaw.exhibits.spec import EXHIBIT_VERSION, ExhibitSpec, drawable
from thaw.exhibits.together import exhibits, together
from thaw.exhibits.write import write_exhibit
from thaw.files import read_json, write_json, write_jsonl
from thaw.randomness import rng
from thaw.report.page import ReportExhibit, ReportSpec
from thaw.scoring.counts import UtteranceCounts, count_rows
from thaw.scoring.edits import Edits
from thaw.scoring.scores import score

ROOT = Path(__file__).parents[2]
TREATMENTS = {
    "scratch": "Baseline",
    "frozen-0": "0",
    "frozen-1": "1",
    "frozen-2": "1-2",
    "frozen-3": "1-3",
    "frozen-4": "1-4",
    "frozen-5": "1-5",
    "frozen-3-5": "1-3, 5",
}
# The second study's: what a row says of each treatment beyond its label.
CROSSLINGUAL: dict[str, dict[str, Any]] = {
    "scratch": {"label": "From scratch", "learning_rate": 0.01},
    "scratch-small": {"label": "From scratch, 5x3", "model": "quartznet-small", "learning_rate": 0.01, "layers": 9},
    "finetuned": {"label": "Fine-tuned", "learning_rate": 0.001, "alike": "a"},
    "lr-10": {"label": "Fine-tuned, 10 times the rate", "learning_rate": 0.01, "alike": "a"},
    "lr-3": {"label": "Fine-tuned, 3 times the rate", "learning_rate": 0.003, "alike": "a"},
    "shared-letters": {"label": "Fine-tuned, shared letters kept", "learning_rate": 0.001, "alike": "b"},
    "first-7": {"label": "First 7 frozen", "frozen": 7, "learning_rate": 0.001, "alike": "c"},
    "decoder-only": {"label": "Decoder only", "frozen": 18, "learning_rate": 0.01, "alike": "d"},
    "decoder-bn": {"label": "Decoder and norms", "frozen": 18, "learning_rate": 0.01, "alike": "e"},
}
SETUPS: dict[str, dict[str, Any]] = {
    "freezing": {"model": "deepspeech", "layers": 6, "source_label": "English"},
    "crosslingual": {"model": "quartznet", "layers": 19, "source_label": "English"},
}
FROZEN = {"frozen-1": 1, "frozen-2": 2, "frozen-3": 3, "frozen-4": 4, "frozen-5": 5, "frozen-3-5": 4}
TARGETS = {"german": "German", "spanish": "Spanish"}
DECODERS = {"greedy": "greedy", "lm": "beam + LM"}
KINDS = {"greedy": "greedy", "lm": "beam"}
QUALITY = dict(zip(TREATMENTS, (0.85, 0.5, 0.42, 0.36, 0.38, 0.55, 0.62, 0.45), strict=True))
QUALITY |= dict(zip(list(CROSSLINGUAL)[1:], (0.7, 0.35, 0.6, 0.45, 0.33, 0.36, 0.8, 0.5), strict=True))
WORDS = ["der", "mond", "geht", "auf", "&", "die", "<sterne>", "prangen", "am", "100%", "klaren", "himmel"]


class Fakes:
    """A folder of made-up results, and the specs that name them."""

    def __init__(
        self,
        folder: Path,
        treatments: Sequence[str] | None = None,
        seeds: Sequence[int] = (1,),
        targets: dict[str, str] | None = None,
        utterances: int = 12,
        epochs: int = 6,
        kind: str = "freezing",
    ) -> None:
        self.folder = folder
        self.kind = kind
        labels = TREATMENTS if kind == "freezing" else {name: how["label"] for name, how in CROSSLINGUAL.items()}
        treatments = tuple(labels) if treatments is None else treatments
        self.utterances = utterances
        self.epochs = epochs
        targets = TARGETS if targets is None else targets
        self.runs = [
            self.run(treatment, labels[treatment], target, label, seed)
            for target, label in targets.items()
            for treatment in treatments
            for seed in seeds
        ]
        self.sources = [self.run("source", "source", "english", "English", 1)]
        self.corpora = [self.corpus(name, label) for name, label in {"english": "English", **targets}.items()]

    def spec(self, name: str, **changes: Any) -> ExhibitSpec:
        """The spec of one exhibit, cut down to its runs and needs as the plan does it."""
        exhibit = exhibits(self.kind)[name]
        whole = self.whole(name, **changes)
        files = {file: str(ROOT / "config/published" / file) for file in exhibit.published}
        found = drawable({name: exhibit}, whole).get(name, whole.model_copy(update={"runs": ()}))
        return found.model_copy(update={"published": changes.get("published", files)}).trimmed(exhibit.needs)

    def whole(self, name: str = "", **changes: Any) -> ExhibitSpec:
        """The spec of the whole study."""
        fields: dict[str, Any] = {
            "study": self.kind,
            "kind": self.kind,
            "name": name,
            "version": EXHIBIT_VERSION,
            "config": "mini",
            "scale": "mini",
            "speech": "synthesised",
            "baseline": "scratch",
            "reference": "frozen-0" if self.kind == "freezing" else "finetuned",
            "runs": self.runs,
            "sources": self.sources,
            "corpora": self.corpora,
        }
        return ExhibitSpec.model_validate_json(canonical_json(fields | changes))

    def report(self, exhibits_made: list[dict[str, Any]], **changes: Any) -> ReportSpec:
        """The spec of a report page on everything."""
        fields: dict[str, Any] = {
            "version": EXHIBIT_VERSION,
            "config": "mini",
            "scale": "mini",
            "speech": "synthesised",
            "members": {self.kind: [run["id"] for run in (*self.runs, *self.sources)]},
            "exhibits": exhibits_made,
            "runs": self.runs,
            "sources": self.sources,
            "corpora": self.corpora,
        }
        return ReportSpec.model_validate_json(canonical_json(fields | changes))

    def run(self, treatment: str, label: str, target: str, target_label: str, seed: int) -> dict[str, Any]:
        """Write the files of one run and its decodes; its row."""
        setup = SETUPS[self.kind] | CROSSLINGUAL.get(treatment, {} if self.kind == "freezing" else {"label": label})
        setup |= {"label": label}
        setup |= {"frozen": FROZEN[treatment]} if treatment in FROZEN else {}
        moved = treatment != "source" and not treatment.startswith("scratch")
        setup |= {"scratch": not moved, "new_output": moved, "frozen_first": treatment != "frozen-3-5"}
        name = f"{target}-{setup['model']}-{treatment}-s{seed}"
        folder = self.folder / "runs" / f"{name}-ab12cd34ef"
        write_jsonl(folder / "metrics.jsonl", self._metrics(name, QUALITY.get(treatment, 0.3)), sealed=False)
        write_json(folder / "run.json", run_record(name, treatment, self.epochs), sealed=False)
        decodes = [self._decode(name, decoder, label_, treatment) for decoder, label_ in DECODERS.items()]
        return {
            "id": folder.name,
            "treatment": treatment,
            "target": target,
            "target_label": target_label,
            "seed": seed,
            "recipe": f"{self.kind}-{treatment}",
            **setup,
            "record": str(folder / "run.json"),
            "metrics": str(folder / "metrics.jsonl"),
            "decodes": decodes,
        }

    def _metrics(self, name: str, quality: float) -> list[dict[str, Any]]:
        noise = rng("fake", name)
        rows = []
        for epoch in range(1, self.epochs + 1):
            train = 120 * quality * math.exp(-epoch / 5) + 8 + float(noise.normal(0, 0.5))
            dev = 110 * quality * math.exp(-epoch / 4) + 14 + 0.06 * epoch**1.6 + float(noise.normal(0, 0.8))
            losses = {"train_loss": train, "dev_loss": dev, "dev_wer": min(1.0, quality * (0.6 + 2 / (1 + epoch)))}
            rows.append({"epoch": epoch, "step": 20 * epoch, "step_seconds": 0.1, **losses})
        return rows

    def _decode(self, name: str, decoder: str, label: str, treatment: str) -> dict[str, Any]:
        quality = QUALITY.get(treatment, 0.3) * (0.8 if decoder == "lm" else 1.0)
        rows = hypotheses(name + decoder, quality, self.utterances)
        counts = count_rows(rows)
        row = self.write_decode(f"{name}-{decoder}", decoder, label, counts)
        write_jsonl(Path(row["hypotheses"]), rows, sealed=False)
        record = {"decoder": {"kind": decoder, "beam": 50}, "alpha": 1.2, "beta": 0.5, "cost": {"seconds": 3.2}}
        write_json(Path(row["record"]), record, sealed=False)
        return row

    def write_decode(self, name: str, decoder: str, label: str, counts: list[UtteranceCounts]) -> dict[str, Any]:
        """Write scores and counts of one decode; its row."""
        folder = self.folder / "decodes" / f"{name}-12ab34cd56"
        write_json(folder / "scores.json", score(counts, ScoringSpec()), sealed=False)
        write_jsonl(folder / "counts.jsonl", [row.row() for row in counts], sealed=False)
        files = {"scores": "scores.json", "counts": "counts.jsonl", "record": "decode.json"}
        files |= {"hypotheses": "hypotheses.jsonl"}
        paths = {key: str(folder / file) for key, file in files.items()}
        return {"id": folder.name, "decoder": decoder, "label": label, "kind": KINDS[decoder], **paths}

    def corpus(self, name: str, label: str) -> dict[str, Any]:
        """Write the counts of one corpus; its row."""
        path = self.folder / "corpora" / f"{name}.json"
        rejected = {"train": {"transcript longer than its audio": 3, "too long": 2}, "dev": {}, "test": {"too long": 1}}
        counts = {
            split: {
                "utterances": n - sum(rejected[split].values()),
                "hours": n / 1800,
                "speakers": 6 + n // 40,
                "characters": 21 * n,
                "words": 3 * n,
                "listed": n,
                "rejected": rejected[split],
            }
            for split, n in (("train", 1320), ("dev", 80), ("test", 160))
        }
        write_json(path, counts, sealed=False)
        alphabet = " abcdefghijklmnopqrstuvwxyzäöü'"
        licence = {"licence": "CC0 <public domain>", "citation": "Made & up, 2021", "source": "synthetic"}
        return {"name": name, "label": label, "counts": str(path), "alphabet": alphabet, **licence}


def hypotheses(name: str, quality: float, utterances: int) -> list[dict[str, Any]]:
    """Recognised sentences with about `quality` of the words wrong."""
    spoken, noise = rng("fake", "words"), rng("fake", name, "errors")  # the same sentences for every run
    rows = []
    for number in range(utterances):
        words = [WORDS[int(spoken.integers(len(WORDS)))] for _ in range(3 + int(spoken.integers(3)))]
        heard = [word if noise.random() > quality else word[: int(noise.integers(len(word)))] for word in words]
        row = {"id": f"clip-{number:04d}", "speaker": f"speaker-{number % 5}"}
        rows.append(row | {"reference": " ".join(words), "hypothesis": " ".join(w for w in heard if w)})
    return rows


def keep_epoch(run: Mapping[str, Any], epoch: int) -> None:
    """A run's record says that the weights of this epoch were kept."""
    record = Path(run["record"])
    write_json(record, read_json(record) | {"best": {"epoch": epoch, "dev_loss": 14.2}}, sealed=False)


def run_record(name: str, treatment: str, epochs: int) -> dict[str, Any]:
    """A run.json."""
    frozen = {"frozen-1": ["layer_1"], "frozen-2": ["layer_1", "layer_2"]}.get(treatment, [])
    digests = {layer: f"digest of {layer}" for layer in frozen}
    trained = ["layers.layer_6.weight", "layers.layer_6.bias"]
    return {
        "recipe": {"model": {"kind": "deepspeech", "hidden": 192}, "freeze": frozen, "start": "scratch", "seed": 1},
        "checks": {
            "start": {"frozen": digests, "kept": ["layer_1"], "drawn": ["layer_6"], "trainable": trained},
            "end": {"frozen": digests, "without_gradient": []},
        },
        "corpora": {"train": {"utterances": 315, "hours": 0.25}},
        "parameters": {"total": 420_000, "trainable": 420_000 - 100_000 * len(frozen), "by_layer": {"layer_1": 95_040}},
        "best": {"epoch": epochs - 1, "dev_loss": 14.2},
        "epochs": epochs,
        "stopped": "all epochs done",
        "cost": {"seconds": 75.3, "audio_hours": 1.6, "attempts": 2},
        "environment": {"python": "3.11.9", "torch": "2.11.0", "threads": 1, "device": "cpu", "thaw": "0.1.0"},
    }


def counts_of(errors: dict[str, tuple[int, int]], reference: int = 10) -> list[UtteranceCounts]:
    """Counts from {speaker: (word errors, character errors)}: one utterance each, all errors substitutions."""
    return [
        UtteranceCounts(
            f"clip-{speaker}",
            speaker,
            {"word": Edits(sub=word, ref=reference), "char": Edits(sub=char, ref=5 * reference)},
        )
        for speaker, (word, char) in sorted(errors.items())
    ]


def draw_everything(fakes: Fakes, folder: Path, **changes: Any) -> list[dict[str, Any]]:
    """Draw all exhibits of a fake study into `folder`; their rows for a report."""
    names = drawable(exhibits(fakes.kind), fakes.whole(**changes))
    return draw_specs([fakes.spec(name, **changes) for name in names], folder)


def draw_together(studies: Sequence[Fakes], folder: Path, **changes: Any) -> list[dict[str, Any]]:
    """The same of the exhibits over all studies."""
    whole = together([study.whole(**changes) for study in studies])
    found = drawable(exhibits(whole.kind), whole)
    return draw_specs([spec.trimmed(exhibits(whole.kind)[name].needs) for name, spec in found.items()], folder)


def report_rows(made: list[dict[str, Any]]) -> tuple[ReportExhibit, ...]:
    """Rows of drawn exhibits as a report takes them."""
    return tuple(ReportExhibit.model_validate_json(canonical_json(row)) for row in made)


def draw_specs(specs: Sequence[ExhibitSpec], folder: Path) -> list[dict[str, Any]]:
    """Draw each spec into `folder`; rows for a report."""
    made = []
    for spec in specs:
        exhibit = exhibits(spec.kind)[spec.name]
        files = [folder / f"{spec.name}.{suffix}" for suffix in exhibit.suffixes]
        write_exhibit(spec, files)
        row = {"study": spec.study, "name": spec.name, "title": exhibit.title, "files": [str(file) for file in files]}
        made.append(row)
    return made


if __name__ == "__main__":
    from thaw.report.page import write_report

    out = Path(sys.argv[1])
    study = Fakes(out, utterances=160, epochs=20)
    write_report(study.report(draw_everything(study, out / "freezing")), out / "report.html")
    three = Fakes(out / "seeds", seeds=(1, 2, 3), utterances=80, epochs=15)
    draw_everything(three, out / "seeds-freezing")
    paper = Fakes(out / "paper", targets={"german": "German", "swiss-german": "Swiss German"}, utterances=80)
    draw_everything(paper, out / "paper-freezing", scale="paper", speech="recorded")
    pair = {"russian": "Russian", "spanish": "Spanish"}
    second = Fakes(out / "second", targets=pair, utterances=160, epochs=20, kind="crosslingual")
    both = study.report([], runs=[*study.runs, *second.runs], corpora=[*study.corpora, *second.corpora[1:2]])
    drawn = draw_everything(study, out / "freezing") + draw_everything(second, out / "crosslingual")
    drawn += draw_together([study, second], out / "all")
    credits = {"freezing": "The first paper", "crosslingual": "The second one"}
    write_report(both.model_copy(update={"exhibits": report_rows(drawn), "credits": credits}), out / "both.html")
    seeds = Fakes(out / "second-seeds", targets=pair, seeds=(1, 2), utterances=60, epochs=12, kind="crosslingual")
    draw_everything(seeds, out / "seeds-crosslingual", scale="paper", speech="recorded")
    draw_together([three, seeds], out / "seeds-all")
