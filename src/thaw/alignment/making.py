"""An alignment from end to end: train the GMM-HMM, or go on with it, then align every split and write all files."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thaw.alignment import acoustic
from thaw.alignment.bootstrap import Moment, bootstrap, usable
from thaw.alignment.kaldi import PINS
from thaw.alignment.lexicon import read_lexicon
from thaw.alignment.manifests import align_manifest
from thaw.alignment.states import Inventory, read_alignment, write_alignment
from thaw.canonical import canonical_json, digest, file_sha256
from thaw.config.alignment import AlignmentSpec
from thaw.config.strict import semantic
from thaw.corpora.manifest import manifest_sha256, read_manifest
from thaw.errors import UserError
from thaw.files import Reject, remove, write_json, write_rejects

GMM, REJECTS, RECORD = "gmm.safetensors", "rejects.tsv", "alignment.json"
MOMENT = "moment.safetensors"


def make(
    spec: AlignmentSpec, lexicon: Path, splits: Mapping[str, Path], out: Path, state: Path, processes: int = 1
) -> dict[str, Any]:
    """Write gmm.safetensors, one file for each of `splits`, rejects.tsv and alignment.json to `out`; gives the record.

    `splits` has train at least. `state` is deleted in the end. UserError where nothing of a split can be aligned.
    """
    identity = digest([canonical_json(semantic(spec)), file_sha256(lexicon), manifest_sha256(splits["train"])])
    folder = state / identity  # of this work alone: what another config or lexicon left is never taken
    last = _trained(spec, lexicon, splits["train"], folder, processes)
    model = last.model
    meta = {"alignment": spec.model_dump(mode="json"), "lexicon_sha256": file_sha256(lexicon)}
    acoustic.save(out / GMM, model, meta)
    inventory = Inventory(model.mixtures.num_states, model.phones)
    rejects: list[Reject] = []
    record: dict[str, Any] = {}
    for split, manifest in splits.items():
        pieces = align_manifest(manifest, split, out / GMM, lexicon, folder, processes)
        rejects += pieces.rejects
        path = out / f"{split}.safetensors"
        write_alignment(path, pieces.rows(), inventory, manifest, {"gmm_sha256": file_sha256(out / GMM)})
        alignment = read_alignment(path)
        if not alignment:
            raise UserError(f"{manifest}: no utterance could be aligned; {_commonest(pieces.rejects)}")
        record[split] = {
            "utterances": len(alignment),
            "frames": int(alignment.counts().sum()),
            "rejected": len(pieces.rejects),
            "reasons": dict(sorted(Counter(reject.reason for reject in pieces.rejects).items())),
        }
    write_rejects(out / REJECTS, rejects)
    whole = {
        **meta,
        "phones": list(model.phones),
        "num_states": inventory.num_states,
        "state_counts": read_alignment(out / "train.safetensors").counts().tolist(),
        "splits": record,
        "iterations": list(last.log),
        "packages": PINS,
    }
    write_json(out / RECORD, whole)
    shutil.rmtree(state, ignore_errors=True)
    return whole


def _commonest(rejects: Sequence[Reject]) -> str:
    reasons = Counter(reject.reason for reject in rejects)
    reason, number = reasons.most_common(1)[0]
    example = next(reject for reject in rejects if reject.reason == reason)
    return f"the commonest reason: {reason} ({number}), e.g. {example.id}: {example.detail}"


def _trained(spec: AlignmentSpec, lexicon: Path, train: Path, folder: Path, processes: int) -> Moment:
    """The last moment of the training; what a killed one left in `folder` is gone on with."""
    known = read_lexicon(lexicon)
    utterances, rejects = usable(read_manifest(train), known, "train")
    if not utterances:
        raise UserError(f"{train}: no utterance can be aligned; {_commonest(rejects)}")
    path = folder / MOMENT

    def keep(moment: Moment) -> None:
        where = {"stage": moment.stage, "iteration": moment.iteration, "log": list(moment.log)}
        acoustic.save(path, moment.model, where)

    last = bootstrap(spec, utterances, known, processes, _left(path), keep)
    keep(last)  # a kill while the splits are aligned comes back to here
    return last


def _left(path: Path) -> Moment | None:
    """The moment that a killed training left; None where there is none, or a damaged one."""
    if not path.is_file():
        return None
    try:
        model, meta = acoustic.load(path)
        return Moment(meta["stage"], meta["iteration"], model, tuple(meta["log"]))
    except (UserError, KeyError):
        remove(path)
        return None
