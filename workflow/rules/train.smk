# Starts that were released by others, and our own trainings.


rule checkpoint:
    input:
        # Their checksum is the id, so other weights are another job, and a touch is none.
        files=lambda wildcards: ancient(
            contents.checkpoint_inputs(PLAN.checkpoints[wildcards.id].spec)
        ),
    output:
        model="results/checkpoints/{id}/model.safetensors",
        optimizer="results/checkpoints/{id}/optimizer.safetensors",
        digest="results/checkpoints/{id}/model.sha256",
        record="results/checkpoints/{id}/checkpoint.json",
    log:
        "results/logs/checkpoint/{id}.log",
    priority: first
    conda:
        "../../envs/tools.yaml"
    resources:
        runtime=60,
        mem_mb=4000,
    params:
        kind=lambda wildcards: PLAN.checkpoints[wildcards.id].spec.kind,
        path=lambda wildcards: PLAN.checkpoints[wildcards.id].spec.path,
        sha256=lambda wildcards: PLAN.checkpoints[wildcards.id].content,
        alphabet=lambda wildcards: PLAN.checkpoints[wildcards.id].alphabet,
        model=lambda wildcards: PLAN.checkpoints[wildcards.id].model_json,
    message:
        "import {wildcards.id}"
    shell:
        "exec thaw --log {log:q} checkpoint --kind {params.kind:q} --path={params.path:q} --sha256={params.sha256:q}"
        " --alphabet={params.alphabet:q} --model {params.model:q} --model-out {output.model:q}"
        " --optimizer {output.optimizer:q} --digest {output.digest:q} --record {output.record:q}"


# One training a job. It keeps its state outside its outputs and goes on from there when it is tried again (exit 75).


rule train:
    input:
        train=lambda wildcards: [
            layout.train_data(data) for data in PLAN.runs[wildcards.id].data
        ],
        dev=lambda wildcards: [
            layout.manifest(data.manifest, "dev.jsonl")
            for data in PLAN.runs[wildcards.id].data
        ],
        # Big files are ancient, small ones that say the same are tracked: a touch or a copy trains nothing anew.
        audio=lambda wildcards: ancient(
            [
                wav
                for data in PLAN.runs[wildcards.id].data
                for wav in layout.shards(data.manifest.corpus, "wav")
            ]
        ),
        start=lambda wildcards: ancient(start_files(wildcards, "safetensors")),
        start_optimizer=start_optimizer,
        start_digest=lambda wildcards: start_files(wildcards, "sha256"),
        load=lambda wildcards: ancient(loaded_files(wildcards, "safetensors")),
        load_digest=lambda wildcards: loaded_files(wildcards, "sha256"),
        ranking=ranking_rows,
        units=units_file,
        alignment=run_alignments,
    output:
        model="results/runs/{id}/model.safetensors",
        optimizer="results/runs/{id}/optimizer.safetensors",
        digest="results/runs/{id}/model.sha256",
        record="results/runs/{id}/run.json",
        metrics="results/runs/{id}/metrics.jsonl",
    log:
        "results/logs/train/{id}.log",
    priority: first
    retries: tries_again(EXECUTION.attempts - 1)
    conda:
        "../../envs/tools.yaml"
    threads: lambda wildcards: EXECUTION.threads * worker_count(wildcards)
    resources:
        runtime=EXECUTION.runtime_minutes,
        each=lambda wildcards, threads: min(threads, EXECUTION.threads),
        workers=lambda wildcards, threads: max(threads // EXECUTION.threads, 1),
        mem_mb=12000,  # features are cached, up to 4 GiB a split
        device=EXECUTION.device,
        gpu_share=100,  # a profile's: hundredths of a GPU (docs/cluster.md)
        state=lambda wildcards: EXECUTION.state,
        features=lambda wildcards: EXECUTION.features,
        features_gb=EXECUTION.features_gb,
        checkpoint_seconds=int(EXECUTION.checkpoint_seconds),
        attempt=lambda wildcards, attempt: attempt,
        launcher="",  # a profile's: what starts one process per GPU (docs/cluster.md)
        tensorboard=lambda wildcards: (
            f"--tensorboard=results/tensorboard/{wildcards.id}"
            if EXECUTION.tensorboard
            else ""
        ),
        snapshots=lambda wildcards: kept_option(wildcards, "snapshots", "safetensors"),
        snapshots_digest=lambda wildcards: kept_option(
            wildcards, "snapshots-digest", "sha256"
        ),
    params:
        recipe=lambda wildcards: PLAN.runs[wildcards.id].recipe_json,
    message:
        "train {wildcards.id}"
    shell:
        # The shell splits a launcher into words, and expands nothing in it.
        "launcher={resources.launcher:q}; exec $launcher thaw --log {log:q} train --recipe {params.recipe:q}"
        " --train {input.train:q} --dev {input.dev:q}"
        " --start {input.start:q} --start-optimizer {input.start_optimizer:q} --load {input.load:q}"
        " --alignment {input.alignment:q} --ranking {input.ranking:q} --workers {resources.workers:q}"
        " --units {input.units:q}"
        " --state={resources.state:q}/{wildcards.id:q} --runtime {resources.runtime:q} --wait 3600"
        " --attempt {resources.attempt:q}"
        " --features={resources.features:q} --features-gb {resources.features_gb:q}"
        " --checkpoint-seconds {resources.checkpoint_seconds:q} --threads {resources.each:q} --device {resources.device:q} --gpu-share {resources.gpu_share:q}"
        " {resources.tensorboard:q} {resources.snapshots:q} {resources.snapshots_digest:q}"
        " --model {output.model:q} --optimizer {output.optimizer:q} --digest {output.digest:q}"
        " --record {output.record:q} --metrics {output.metrics:q}"


use rule train as train_keeping with:
    output:
        model="results/runs/{id}/model.safetensors",
        optimizer="results/runs/{id}/optimizer.safetensors",
        digest="results/runs/{id}/model.sha256",
        record="results/runs/{id}/run.json",
        metrics="results/runs/{id}/metrics.jsonl",
        snapshots="results/runs/{id}/snapshots.safetensors",
        snapshots_digest="results/runs/{id}/snapshots.sha256",
    wildcard_constraints:
        id=KEEPING,


ruleorder: train_keeping > train
