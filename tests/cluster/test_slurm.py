"""`snakemake --profile slurm` on real SLURM daemons: a study from end to end, and every way to disturb a training."""

from __future__ import annotations

import signal
import time

from tests.cluster.cluster import Cluster
from tests.cluster.disturbed import Study
from thaw.commands.train import budget

EARLY = 80  # the step, of 1200, after which the training is disturbed


def test_a_study_runs_as_typed(calm: Study, cluster: Cluster) -> None:
    assert {"table2.csv", "table2.tex", "figure2.pdf"} <= set(calm.shown())
    assert (calm.root / "results" / "report-faults.html").exists()
    rows = cluster.run("sacct", "-X", "-n", "-P", "--format=State,AllocTRES,TimelimitRaw").splitlines()
    assert len(rows) == 13  # 2 fetch, 3 audio, 2 manifest, 3 train, 3 emit; the rest runs where Snakemake runs
    assert all(row.startswith("COMPLETED") for row in rows)
    assert sum("gres/gpu=1" in row for row in rows) == 6
    assert sum(row.endswith("|1440") for row in rows) == 3


def test_requeued_by_hand(study: Study, calm: Study, cluster: Cluster) -> None:
    job = study.held_at(EARLY)
    saved = study.saved_step()
    cluster.run("scontrol", "requeue", job)
    study.must_equal(calm, saved, starts=2)
    assert cluster.history(job) == ["REQUEUED", "COMPLETED"]


def test_cancelled_by_hand(study: Study, calm: Study, cluster: Cluster) -> None:
    job = study.held_at(EARLY)
    saved = study.saved_step()
    cluster.run("scancel", job)
    study.must_equal(calm, saved, starts=2)
    assert "Trying to restart job" in study.log()


def test_preempted_by_an_urgent_job(study: Study, calm: Study, cluster: Cluster) -> None:
    job = study.held_at(EARLY)
    saved = study.saved_step()
    cluster.run("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 5")
    study.must_equal(calm, saved, starts=2)
    assert cluster.history(job) == ["PREEMPTED", "COMPLETED"]


def test_its_node_goes_down_and_comes_back(study: Study, calm: Study, cluster: Cluster) -> None:
    job = study.held_at(EARLY)
    saved = study.saved_step()
    node = cluster.run("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip()
    cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        study.wait(lambda: cluster.history(job)[0] == "NODE_FAIL", "a failed node")
        time.sleep(5)
    finally:
        cluster.run("scontrol", "update", f"nodename={node}", "state=resume")
    study.must_equal(calm, saved, starts=2)


def test_snakemake_is_killed_and_started_again(study: Study, calm: Study, cluster: Cluster) -> None:
    job = study.held_at(EARLY)
    saved = study.saved_step()
    study.kill()
    assert study.jobs() == [job]  # its job goes on
    study.start("--unlock").wait()
    study.start()
    # The second job meets the first at work: it waits, and finds nothing left to train.
    study.wait(lambda: "waiting: results/state" in study.training_log(), "a second trainer that waits")
    assert len(study.jobs()) == 2
    assert study.saved_step() == saved
    study.send(signal.SIGCONT)
    study.must_equal(calm, 0, starts=1)


def test_time_limits_shorter_than_the_training(study: Study, calm: Study, cluster: Cluster) -> None:
    job = study.held_at(EARLY, "--set-resources", "train:runtime=1")
    saved = study.saved_step()
    # Its start alone may take long on a busy machine, and SLURM counts that: here its own clock is what is tested.
    cluster.run("scontrol", "update", f"jobid={job}", "TimeLimit=+3")
    time.sleep(max(0.0, budget(0, 1) + 10 - study.trainer_age()))  # as on a hanging disk, until its time is over
    study.send(signal.SIGCONT)
    study.wait(lambda: cluster.history(job) == ["FAILED"], "a stop before the limit")  # exit 75; else it is TIMEOUT
    assert "the same command goes on from there" in study.job_log(job)
    assert study.job_log(job).count("time budget") == 1  # only Snakemake's main process tries again
    job = study.hold_after(study.saved_step())
    assert study.resumed_at() >= saved
    saved = study.saved_step()
    cluster.run("scontrol", "update", f"jobid={job}", "EndTime=now+1")
    study.wait(lambda: cluster.history(job) == ["TIMEOUT"], "the end of the time")
    study.must_equal(calm, saved, starts=3)
