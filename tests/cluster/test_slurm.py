"""`snakemake --profile slurm` on real SLURM daemons: a study from end to end, and every way to disturb a training."""

from __future__ import annotations

import time

from tests.cluster.cluster import Cluster
from tests.cluster.disturbed import Study
from thaw.commands.train import budget

EARLY = 40  # the epoch, of 1000, in which the training is disturbed


def test_a_study_runs_as_typed(calm: Study, cluster: Cluster) -> None:
    assert {"table2.csv", "table2.tex", "figure2.pdf"} <= set(calm.shown())
    assert (calm.root / "results" / "report-faults.html").exists()
    rows = cluster.run("sacct", "-X", "-n", "-P", "--format=State,AllocTRES,TimelimitRaw").splitlines()
    assert len(rows) == 12  # 2 fetch, 2 audio, 2 manifest, 3 train, 3 decode; the rest runs where Snakemake runs
    assert all(row.startswith("COMPLETED") for row in rows)
    assert sum("gres/gpu=1" in row for row in rows) == 6
    assert sum(row.endswith("|1440") for row in rows) == 3


def test_requeued_by_hand(study: Study, calm: Study, cluster: Cluster) -> None:
    job = study.disturb_at(EARLY)
    saved = study.saved_step()
    cluster.run("scontrol", "requeue", job)
    study.must_equal(calm, saved, starts=2)
    assert cluster.history(job) == ["REQUEUED", "COMPLETED"]


def test_cancelled_by_hand(study: Study, calm: Study, cluster: Cluster) -> None:
    job = study.disturb_at(EARLY)
    saved = study.saved_step()
    cluster.run("scancel", job)
    study.must_equal(calm, saved, starts=2)
    assert "Trying to restart job" in study.log()


def test_preempted_by_an_urgent_job(study: Study, calm: Study, cluster: Cluster) -> None:
    job = study.disturb_at(EARLY)
    saved = study.saved_step()
    cluster.run("sbatch", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 5")
    study.must_equal(calm, saved, starts=2)
    assert cluster.history(job) == ["PREEMPTED", "COMPLETED"]


def test_its_node_goes_down_and_comes_back(study: Study, calm: Study, cluster: Cluster) -> None:
    job = study.disturb_at(EARLY)
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
    job = study.disturb_at(EARLY)
    study.kill()
    assert study.jobs() == [job]  # its job goes on
    study.pause(20)  # so that it is still at work when its second is submitted
    study.start("--unlock").wait()
    study.start()
    study.must_equal(calm, 0, starts=1)


def test_time_limits_shorter_than_the_training(study: Study, calm: Study, cluster: Cluster) -> None:
    job = study.disturb_at(EARLY, "--set-resources", "train:runtime=2")
    cluster.run(
        "scontrol", "update", f"jobid={job}", "TimeLimit=+2"
    )  # its start alone may take a minute on a busy machine
    study.pause(budget(0, 2) - study.trainer_age())  # as a slow disk would, until its own time is nearly over
    study.wait(lambda: cluster.history(job) == ["FAILED"], "a stop before the limit")  # exit 75; else it is TIMEOUT
    assert "the same command goes on from there" in study.training_log()
    job = study.wait_for_epoch(EARLY)
    saved = study.saved_step()
    cluster.run("scontrol", "update", f"jobid={job}", "EndTime=now+1")
    study.pause()
    study.wait(lambda: cluster.history(job) == ["TIMEOUT"], "the end of the time")
    study.must_equal(calm, saved, starts=3)
