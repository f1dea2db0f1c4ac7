"""Where everything lives under `results/`: the one place that knows. Paths are relative to the working directory."""

from __future__ import annotations

from thaw.config import starts
from thaw.planning.alignments import Alignment, GmmDecode, Graph, Lexicon
from thaw.planning.artifacts import Checkpoint, Decode, Evidence, Probe, Run
from thaw.planning.corpora import Corpus, CountedUnits, Data, LanguageModel, Manifest, Part
from thaw.planning.emissions import Emission

RESULTS = "results"
CORPORA = f"{RESULTS}/corpora"
AUDIO = f"{RESULTS}/audio"
MANIFESTS = f"{RESULTS}/manifests"
LMS = f"{RESULTS}/lms"
LEXICONS = f"{RESULTS}/lexicons"
ALIGNMENTS = f"{RESULTS}/alignments"
GRAPHS = f"{RESULTS}/graphs"
UNITS = f"{RESULTS}/units"
CHECKPOINTS = f"{RESULTS}/checkpoints"
RUNS = f"{RESULTS}/runs"
EMISSIONS = f"{RESULTS}/emissions"
DECODES = f"{RESULTS}/decodes"
SCORES = f"{RESULTS}/scores"
PARTS = f"{RESULTS}/parts"
PROBES = f"{RESULTS}/probes"
EVIDENCE = f"{RESULTS}/evidence"
LOGS = f"{RESULTS}/logs"
STATE = f"{RESULTS}/state"  # unless the config says otherwise
FEATURES = f"{RESULTS}/features"  # likewise
TENSORBOARD = f"{RESULTS}/tensorboard"
CONFIGS = f"{RESULTS}/configs"  # which config files draw under which name
FOLDERS = (
    *(CORPORA, AUDIO, MANIFESTS, PARTS, LMS, UNITS, CHECKPOINTS, RUNS, EMISSIONS, DECODES, PROBES, EVIDENCE, SCORES),
    *(LEXICONS, ALIGNMENTS, GRAPHS),
    *(LOGS, STATE, FEATURES, TENSORBOARD, CONFIGS),
)
RESERVED = frozenset(folder.removeprefix(f"{RESULTS}/") for folder in FOLDERS)  # no study may be called so


def utterances(corpus: Corpus) -> str:
    """The corpus's listing: one utterance a line."""
    return f"{CORPORA}/{corpus.source_id}/utterances.jsonl"


def corpus_rejects(corpus: Corpus) -> str:
    return f"{CORPORA}/{corpus.source_id}/rejects.tsv"


def shards(corpus: Corpus, ending: str) -> list[str]:
    """The files of all audio shards with one ending: wav, jsonl or rejects.tsv."""
    return [f"{AUDIO}/{corpus.audio_id}/{shard}.{ending}" for shard in range(corpus.shards)]


def manifest(which: Manifest, name: str) -> str:
    """A manifest's file: train.jsonl, dev.jsonl, test.jsonl, rejects.tsv or counts.json."""
    return f"{MANIFESTS}/{which.id}/{name}"


def train_data(which: Data) -> str:
    """The manifest that a run trains on: a part's own, or the training split."""
    return f"{PARTS}/{which.id}/train.jsonl" if isinstance(which, Part) else manifest(which, "train.jsonl")


def lm(which: LanguageModel, name: str) -> str:
    """A language model's file: lm.binary, lexicon.txt or lm.json."""
    return f"{LMS}/{which.id}/{name}"


def lexicon(which: Lexicon, name: str = "lexicon.txt") -> str:
    """A lexicon's file: lexicon.txt or lexicon.json."""
    return f"{LEXICONS}/{which.id}/{name}"


def alignment(which: Alignment, name: str) -> str:
    """An alignment's file: gmm.safetensors, (train|dev|test).safetensors, rejects.tsv or alignment.json."""
    return f"{ALIGNMENTS}/{which.id}/{name}"


def graph(which: Graph, name: str = "graph.fst") -> str:
    """A decoding graph's file: graph.fst, words.txt or graph.json."""
    return f"{GRAPHS}/{which.id}/{name}"


def units(which: CountedUnits, name: str) -> str:
    """A file of units: units.json or record.json."""
    return f"{UNITS}/{which.id}/{name}"


def run(which: Run, name: str) -> str:
    """A run's file: model.safetensors, model.sha256, optimizer.safetensors, run.json or metrics.jsonl."""
    return f"{RUNS}/{which.id}/{name}"


def start(which: Run | Checkpoint, name: str) -> str:
    """The same files of what a run starts from: another run, or an imported checkpoint."""
    return run(which, name) if isinstance(which, Run) else f"{CHECKPOINTS}/{which.id}/{name}"


def weights(which: Run | Checkpoint, snapshot: str, ending: str = "safetensors") -> str:
    """The file that holds a snapshot, or (sha256) its digest: the best epoch's own, or that of all others."""
    return start(which, f"{'model' if snapshot == starts.BEST else 'snapshots'}.{ending}")


def emission(which: Emission, name: str = "") -> str:
    """The folder of emissions, or a file: emissions.json, labels.jsonl, scores.safetensors or dev.safetensors."""
    return f"{EMISSIONS}/{which.id}/{name}".rstrip("/")


def decode(which: Decode | GmmDecode, name: str) -> str:
    """A decode's file: hypotheses.jsonl or decode.json."""
    return f"{DECODES}/{which.id}/{name}"


def probe(which: Probe, name: str) -> str:
    """A probe's file: rows.jsonl, counts.jsonl, hypotheses.jsonl or probe.json."""
    return f"{PROBES}/{which.id}/{name}"


def evidence(which: Evidence) -> str:
    """Evidence's one file."""
    return f"{EVIDENCE}/{which.id}/evidence.json"


def score(which: Decode | GmmDecode, name: str) -> str:
    """A decode's scores: scores.json (totals, intervals) or counts.jsonl (per utterance)."""
    return f"{SCORES}/{which.id}/{name}"


def exhibit(study: str, config: str, name: str, ending: str) -> str:
    """An exhibit's file, e.g. results/freezing/mini/table2.csv."""
    return f"{RESULTS}/{study}/{config}/{name}.{ending}"


def report(config: str, study: str = "") -> str:
    """The page of all studies of a config, or of one."""
    return f"{RESULTS}/{study}/{config}/report.html" if study else f"{RESULTS}/report-{config}.html"


def report_spec(config: str) -> str:
    """What the page of all studies is drawn from, for those who draw it before all are there."""
    return f"{CONFIGS}/{config}-report.json"
