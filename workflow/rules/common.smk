# The checked config, its plan, and how the other files look things up in them.
import fcntl
import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path

from thaw.planning import contents
from thaw.planning import layout
from thaw.planning import showing
from thaw.planning import taken
from thaw.planning import turns
from thaw.canonical import canonical_json
from thaw.config.load import load
from thaw.config.strict import semantic
from thaw.errors import UserError
from thaw.files import verify, write_json
from thaw.planning.artifacts import SCORE_VERSION
from thaw.planning.emissions import (
    asks_the_model,
    emission_of,
    kept,
    read_of,
)
from thaw.planning.plan import resolve

# From the files and what --config says over them, as `thaw runs` reads them: Snakemake's own reading of them, `config`,
# takes the last of two equal keys and knows no null that takes away.
CONFIG_FILES = [Path(file) for file in workflow.configfiles]


def about_to_start():
    """Refuse what would go wrong later; a dry run tells of it and shows the rest."""
    dry = workflow.output_settings and workflow.output_settings.dryrun
    if workflow.resource_settings.cores == 0 and not dry:
        raise UserError(
            "snakemake --cores 0 would wait for ever; give --cores 1 or more"
        )
    try:
        taken.check(PLAN.config.name, CONFIG_FILES)
    except UserError as error:
        if not dry:
            raise
        print(error, file=sys.stderr)


try:
    PLAN = resolve(load(CONFIG_FILES, workflow.config_settings.config))
    if workflow.is_main_process:
        about_to_start()
except UserError as error:
    # One line that says where and what, instead of a traceback through Snakemake.
    print(error, file=sys.stderr)
    sys.stderr.flush()
    os._exit(1)


def look_for_work_when_there_is_some():
    """Drop Snakemake's default limit of 100 jobs a second; one that was asked for stays.

    To keep it, Snakemake (9.27, `JobScheduler.schedule`) looks for work again a second after each look. As each job that
    ends is followed by a look, there are soon hundreds of looks a second: after 450 jobs they took a third of a core.
    """
    limit = workflow.scheduler.job_rate_limiter
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


onstart:
    look_for_work_when_there_is_some()
    taken.record(PLAN.config.name, CONFIG_FILES)
    write_json(Path(layout.report_spec(PLAN.config.name)), semantic(REPORT_SPEC))


# The kernel lets go of this when the process ends, however it ends: so a lock of Snakemake's that outlived its owner
# can be told from one that is meant (see `study` in the Makefile). Network disks may refuse; then the user decides.
ALIVE = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
with suppress(OSError):
    fcntl.flock(ALIVE, fcntl.LOCK_SH | fcntl.LOCK_NB)

EXECUTION = PLAN.config.execution
REPORT = layout.report(PLAN.config.name)
EXHIBITS = showing.exhibits(PLAN)
REPORT_SPEC = showing.report_spec(PLAN)
STUDY_REPORTS = [layout.report(PLAN.config.name, study.name) for study in PLAN.studies]

# Rules read no table or figure again once it is drawn, so what happened to one since is looked at here.
if workflow.is_main_process:
    for path in [
        REPORT,
        *STUDY_REPORTS,
        *(path for one in EXHIBITS.values() for path in one.outputs),
    ]:
        try:
            verify(Path(path))
        except UserError as error:
            print(f"warning: {error}", file=sys.stderr)

# Snakemake fills `{names}` into a text of a rule, but not into what a function returns: so what a person wrote (a label,
# a path) comes from a function, and stands in `shell:` as {…:q}, quoted (tests/workflow/test_quoting.py holds both).

# Rules call `thaw`, which lives beside the Python that runs Snakemake, also where the environment is not activated. They
# `exec` it, and it writes the log itself: so its exit status is the job's, whatever signal comes to all of the job.
BESIDE = shlex.quote(str(Path(sys.executable).parent))
shell.prefix(f'set -eu; export PATH={BESIDE}:"$PATH"; ')


# Runs that keep snapshots have outputs that others have not, so they have a rule of their own.
KEEPING = "|".join(id for id, run in PLAN.runs.items() if run.keeps) or "-"

# What the models of alignments recognise lies beside all other hypotheses, and has a rule of its own.
GMMS = "|".join(PLAN.gmms) or "-"

# Decodes by the rule that makes them, and what is kept of emissions.
ASKING = {id for id, decode in PLAN.decodes.items() if asks_the_model(decode)}
GREEDY = {id for id, one in PLAN.decodes.items() if one.spec.kind == "greedy"} - ASKING
SEARCHED = PLAN.decodes.keys() - ASKING - GREEDY
KEPT = kept(PLAN.decodes.values())


def any_of(ids):
    """A pattern of these ids; of none, where there are none."""
    return "|".join(sorted(ids)) or "-"


wildcard_constraints:
    id="[a-z0-9-]+",
    shard="[0-9]+",
    study="[a-z0-9-]+",
    name="[a-z0-9-]+",


PLACES = turns.places(PLAN)
FOR_STUDY = turns.places_of_jobs(PLAN)
FIRST = turns.awaited(PLAN)


RETRIES = ("--retries", "--restart-times", "-T")


def tries_again(times):
    """How often a failed job is tried again: by the Snakemake that a person started, never by the one inside a job."""
    # The one inside passes over --retries 0 where a rule has its own number. It would start a training anew that ended
    # itself because its job's time is up, and multiply the tries.
    if any(word.split("=")[0] in RETRIES for word in sys.argv):
        return None  # what was asked for on the command line
    return times if workflow.is_main_process else 0


def first(wildcards):
    """The priority of a job: by study, then what others wait for."""
    return 20 * FOR_STUDY.get(wildcards.id, 0) + 10 * (wildcards.id in FIRST)


def soon(wildcards):
    """The priority of a search: before the next model's turn, so that what is kept for it can go."""
    return first(wildcards) + 5


def of_study(wildcards):
    """The priority of an exhibit: once it can be drawn, it is."""
    return 20 * PLACES.get(wildcards.study, 0) + 19


def own_files(corpus):
    """The user's own files that a corpus is listed from; none where it is got or made."""
    return contents.source_inputs(corpus.spec.source, corpus.spec.language)


def own_words(units):
    """The user's own vocabulary, where units are read from one."""
    named = getattr(units.spec, "file", "")
    return [path for path in [Path(named).expanduser()] if named and path.is_file()]


def units_file(wildcards):
    """The words or byte pairs of a run; none where its classes are characters."""
    units = PLAN.runs[wildcards.id].units
    return [layout.units(units, "units.json")] if units else []


def start_files(wildcards, ending):
    """The weights (safetensors), or their digest, that a run starts from; none where it starts from scratch."""
    run = PLAN.runs[wildcards.id]
    if run.start is None:
        return []
    return [layout.weights(run.start, run.recipe.snapshot, ending)]


def loaded_files(wildcards, ending):
    """The same of the runs that single layers come from, in the recipe's order."""
    run = PLAN.runs[wildcards.id]
    pairs = zip(run.donors, run.recipe.loads, strict=True)
    return [layout.weights(donor, load.snapshot, ending) for donor, load in pairs]


def ranking_rows(wildcards):
    """The rows of the probe that ranks layers for a run; none where it needs no ranking."""
    run = PLAN.runs[wildcards.id]
    return [layout.probe(run.ranking, "rows.jsonl")] if run.ranking else []


def worker_count(wildcards):
    """How many processes train the clients of a run; one where it has none."""
    federated = PLAN.runs[wildcards.id].recipe.recipe.learner.kind == "federated"
    return EXECUTION.workers if federated else 1


def start_optimizer(wildcards):
    run = PLAN.runs[wildcards.id]
    transferred = run.recipe.optimizer_state == "transferred"
    return ancient(
        [layout.start(run.start, "optimizer.safetensors")] if transferred else []
    )


def kept_files(run, ending):
    """The snapshots that a run keeps beside its best epoch, or their digest; nothing where it keeps none."""
    return [layout.run(run, f"snapshots.{ending}")] if run.keeps else []


def kept_option(wildcards, option, ending):
    """The option that asks for such a file, as one word; empty for a run that keeps none."""
    return "".join(
        f"--{option}={path}" for path in kept_files(PLAN.runs[wildcards.id], ending)
    )


def weights_of(one, ending):
    """The snapshot that a decode or its emissions are of, or its digest."""
    return layout.weights(one.run, one.snapshot, ending)


def split_of(one):
    """The manifest that a decode or its emissions are of."""
    return layout.manifest(one.manifest, f"{one.split}.jsonl")


def dev_of(one):
    """The dev of the same corpus."""
    return layout.manifest(one.manifest, "dev.jsonl")


def searched_files(wildcards):
    """The emissions that a decode is searched in, their record first."""
    decode = PLAN.decodes[wildcards.id]
    return [layout.emission(emission_of(decode), name) for name in read_of(decode)]


def tuning_manifest(wildcards):
    decode = PLAN.decodes[wildcards.id]
    return [dev_of(decode)] if decode.tunes else []


def graph_file(wildcards, name):
    """A file of the graph that a hybrid is decoded with; none of another decoder."""
    decode = PLAN.decodes[wildcards.id]
    return [layout.graph(decode.graph, name)] if decode.graph else []


def prior_file(wildcards):
    """The alignment whose states a hybrid has: how frequent they are is their prior."""
    decode = PLAN.decodes[wildcards.id]
    return (
        [layout.alignment(decode.alignment, "train.safetensors")]
        if decode.graph
        else []
    )


def run_alignments(wildcards):
    """The alignments that a run learns from: of what it trains on, then of dev."""
    alignments = PLAN.runs[wildcards.id].alignments
    return [
        layout.alignment(alignment, f"{split}.safetensors")
        for split in ("train", "dev")
        for alignment in alignments
    ]


def lm_file(wildcards, name):
    decode = PLAN.decodes[wildcards.id]
    return [layout.lm(decode.lm, name)] if decode.lm else []
