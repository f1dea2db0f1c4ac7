"""What can be said of a plan only once it is there: names that files cannot have, folders that are taken, and what no
federated training could do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from thaw.errors import UserError
from thaw.planning.federated import problems

if TYPE_CHECKING:
    from thaw.planning.plan import Plan

MOST_LETTERS = 200  # of a name that thaw puts together; a file may have 255 bytes, endings and marks included
MOST_SHARDS = 100_000


def check(plan: Plan) -> None:
    """Raise UserError, one line per mistake, for a plan whose files could not be told apart or could not exist."""
    federated = (line for run in plan.runs.values() for line in problems(run))
    if found := list(chain(_folders(plan), _lengths(plan), _jobs(plan), federated)):
        raise UserError("\n".join(f"config: {problem}" for problem in found[:20]))


def _folders(plan: Plan) -> Iterator[str]:
    """A study draws into results/<its name>: no other thing may live there."""
    from thaw.planning.layout import RESERVED, RESULTS

    execution = plan.config.execution
    own = {"state": PurePosixPath(execution.state), "features": PurePosixPath(execution.features)}
    taken = {**dict.fromkeys(RESERVED, "what thaw makes"), "all": "what is drawn from all studies together"}
    for key, folder in own.items():
        if folder.parts[:1] == (RESULTS,) and len(folder.parts) > 1:
            taken[folder.parts[1]] = f"execution.{key}"
    for study in plan.config.studies:
        if study in taken:
            yield f"studies.{study}: {RESULTS}/{study} is taken, by {taken[study]}; give the study another name"
    for key, folder in own.items():
        what = {"state": "unfinished trainings", "features": "features"}[key]
        if str(folder) == RESULTS or (folder.parts[:1] == (RESULTS,) and folder.parts[1] in RESERVED - {key}):
            yield f"execution.{key}: {folder} is taken, by what thaw makes; give {what} a folder of their own"
    if own["state"] == own["features"] and own["state"].parts[0] != RESULTS:
        yield f"execution.features: {own['features']} is that of unfinished trainings; give features one of their own"


def _lengths(plan: Plan) -> Iterator[str]:
    names = chain(
        *(
            plan.decodes,
            plan.emissions,
            plan.evidence,
            plan.runs,
            plan.parts,
            plan.lms,
            plan.manifests,
            plan.checkpoints,
            plan.audio,
        ),
        *(plan.units, plan.lexicons, plan.alignments, plan.graphs, plan.gmms),
    )
    longest = max(names, key=len, default="")
    if len(longest) > MOST_LETTERS:
        yield f"{longest}: a name of {len(longest)} letters, for which there is no file; give its parts shorter names"
    for study in plan.config.studies:
        if len(study) + len(plan.config.name) > MOST_LETTERS - 50:  # results/logs/exhibit/<study>-<name>-<exhibit>.log
            yield f"studies.{study}: it and the config's name are too long for a file; shorten one of them"


def _jobs(plan: Plan) -> Iterator[str]:
    for corpus in plan.audio.values():
        if corpus.shards > MOST_SHARDS:
            where = f"corpora.{corpus.name}"
            yield f"{where}: {corpus.shards:,} jobs would convert it; raise audio.clips_per_job, or lower source.shards"
