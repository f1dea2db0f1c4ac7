# Hypotheses and their scores; evaluations with some layers changed.
#
#   emit (once per snapshot and split) ─┬→ search (beams, graphs) ─┬→ score
#                                       └→ greedy ───────────────→─┤
#   decode (of those who ask the model while they search) ──────→──┘


# Big files are ancient to those who search them, the record that is written with them is tracked.
rule emit:
    input:
        model=lambda wildcards: ancient(
            weights_of(PLAN.emissions[wildcards.id], "safetensors")
        ),
        digest=lambda wildcards: weights_of(PLAN.emissions[wildcards.id], "sha256"),
        audio=lambda wildcards: ancient(
            layout.shards(PLAN.emissions[wildcards.id].manifest.corpus, "wav")
        ),
        split=lambda wildcards: split_of(PLAN.emissions[wildcards.id]),
        # Also where no decoder is tuned, so that one more of them, or one less, changes no job's inputs.
        dev=lambda wildcards: dev_of(PLAN.emissions[wildcards.id]),
    output:
        record="results/emissions/{id}/emissions.json",
        labels="results/emissions/{id}/labels.jsonl",
    log:
        "results/logs/emit/{id}.log",
    priority: first
    conda:
        "../../envs/tools.yaml"
    threads: EXECUTION.threads
    resources:
        runtime=240,
        mem_mb=8000,
        device=EXECUTION.device,
        scores=lambda wildcards: "--scores" if wildcards.id in KEPT.scores else "",
        tune_on=lambda wildcards: (
            f"--tune-on={dev_of(PLAN.emissions[wildcards.id])}"
            if wildcards.id in KEPT.dev
            else ""
        ),
    params:
        snapshot=lambda wildcards: PLAN.emissions[wildcards.id].snapshot,
    message:
        "emit {wildcards.id}"
    shell:
        "exec thaw --log {log:q} emit --model {input.model:q} --snapshot {params.snapshot:q}"
        " --manifest {input.split:q} {resources.scores:q} {resources.tune_on:q}"
        " --threads {threads:q} --device {resources.device:q} --record {output.record:q}"


use rule emit as emit_scores with:
    output:
        record="results/emissions/{id}/emissions.json",
        labels="results/emissions/{id}/labels.jsonl",
        scores="results/emissions/{id}/scores.safetensors",
    wildcard_constraints:
        id=any_of(KEPT.scores - KEPT.dev - KEPT.states),


use rule emit as emit_tuning with:
    output:
        record="results/emissions/{id}/emissions.json",
        labels="results/emissions/{id}/labels.jsonl",
        scores="results/emissions/{id}/scores.safetensors",
        dev="results/emissions/{id}/dev.safetensors",
    wildcard_constraints:
        id=any_of((KEPT.scores & KEPT.dev) - KEPT.states),


use rule emit as emit_states with:
    output:
        record="results/emissions/{id}/emissions.json",
        labels="results/emissions/{id}/labels.jsonl",
        scores=temp("results/emissions/{id}/scores.safetensors"),
    wildcard_constraints:
        id=any_of(KEPT.states - KEPT.dev),


use rule emit as emit_states_tuning with:
    output:
        record="results/emissions/{id}/emissions.json",
        labels="results/emissions/{id}/labels.jsonl",
        scores=temp("results/emissions/{id}/scores.safetensors"),
        dev=temp("results/emissions/{id}/dev.safetensors"),
    wildcard_constraints:
        id=any_of(KEPT.states & KEPT.dev),


ruleorder: emit_states_tuning > emit_states > emit_tuning > emit_scores > emit


# A search asks for no GPU. Its threads are processes: any number of them gives the same bytes.
rule search:
    input:
        record=lambda wildcards: searched_files(wildcards)[0],
        emissions=lambda wildcards: ancient(searched_files(wildcards)[1:]),
        digest=lambda wildcards: weights_of(PLAN.decodes[wildcards.id], "sha256"),
        split=lambda wildcards: split_of(PLAN.decodes[wildcards.id]),
        dev=tuning_manifest,
        lm=lambda wildcards: ancient(lm_file(wildcards, "lm.binary")),
        lm_record=lambda wildcards: lm_file(wildcards, "lm.json"),
        lexicon=lambda wildcards: lm_file(wildcards, "lexicon.txt"),
        graph=lambda wildcards: graph_file(wildcards, "graph.fst"),
        graph_words=lambda wildcards: graph_file(wildcards, "words.txt"),
        graph_record=lambda wildcards: graph_file(wildcards, "graph.json"),
        prior=prior_file,
    output:
        hypotheses="results/decodes/{id}/hypotheses.jsonl",
        record="results/decodes/{id}/decode.json",
    log:
        "results/logs/decode/{id}.log",
    wildcard_constraints:
        id=any_of(SEARCHED),
    priority: soon
    conda:
        "../../envs/tools.yaml"
    threads: 1
    resources:
        runtime=720,
        mem_mb=8000,
    params:
        decoder=lambda wildcards: PLAN.decodes[wildcards.id].spec_json,
    message:
        "search {wildcards.id}"
    shell:
        "exec thaw --log {log:q} search --decoder {params.decoder:q} --emissions {input.record:q}"
        " --manifest {input.split:q} --tune-on {input.dev:q} --lm {input.lm:q} --lexicon {input.lexicon:q}"
        " --graph {input.graph:q} --alignment {input.prior:q} --threads {threads:q}"
        " --hypotheses {output.hypotheses:q} --record {output.record:q}"


rule greedy:
    input:
        record=lambda wildcards: searched_files(wildcards)[0],
        emissions=lambda wildcards: ancient(searched_files(wildcards)[1:]),
        digest=lambda wildcards: weights_of(PLAN.decodes[wildcards.id], "sha256"),
        split=lambda wildcards: split_of(PLAN.decodes[wildcards.id]),
    output:
        hypotheses="results/decodes/{id}/hypotheses.jsonl",
        record="results/decodes/{id}/decode.json",
    log:
        "results/logs/decode/{id}.log",
    wildcard_constraints:
        id=any_of(GREEDY),
    priority: soon
    localrule: True
    conda:
        "../../envs/tools.yaml"
    params:
        decoder=lambda wildcards: PLAN.decodes[wildcards.id].spec_json,
    message:
        "search {wildcards.id}"
    shell:
        "exec thaw --log {log:q} search --decoder {params.decoder:q} --emissions {input.record:q}"
        " --manifest {input.split:q} --hypotheses {output.hypotheses:q} --record {output.record:q}"


# Joint searches, perplexities, transducers: their decoders ask the model while they search.
rule decode:
    input:
        model=lambda wildcards: ancient(
            weights_of(PLAN.decodes[wildcards.id], "safetensors")
        ),
        digest=lambda wildcards: weights_of(PLAN.decodes[wildcards.id], "sha256"),
        audio=lambda wildcards: ancient(
            layout.shards(PLAN.decodes[wildcards.id].manifest.corpus, "wav")
        ),
        split=lambda wildcards: split_of(PLAN.decodes[wildcards.id]),
    output:
        hypotheses="results/decodes/{id}/hypotheses.jsonl",
        record="results/decodes/{id}/decode.json",
    log:
        "results/logs/decode/{id}.log",
    wildcard_constraints:
        id=any_of(ASKING),
    priority: first
    conda:
        "../../envs/tools.yaml"
    threads: EXECUTION.threads
    resources:
        runtime=240,
        mem_mb=8000,
        device=EXECUTION.device,
    params:
        decoder=lambda wildcards: PLAN.decodes[wildcards.id].spec_json,
        snapshot=lambda wildcards: PLAN.decodes[wildcards.id].snapshot,
    message:
        "decode {wildcards.id}"
    shell:
        "exec thaw --log {log:q} decode --decoder {params.decoder:q} --model {input.model:q} --snapshot {params.snapshot:q}"
        " --manifest {input.split:q} --threads {threads:q} --device {resources.device:q}"
        " --hypotheses {output.hypotheses:q} --record {output.record:q}"


# One job a run: weights are changed in memory, features made once.
rule probe:
    input:
        model=lambda wildcards: ancient(
            layout.run(PLAN.probes[wildcards.id].run, "model.safetensors")
        ),
        digest=lambda wildcards: layout.run(
            PLAN.probes[wildcards.id].run, "model.sha256"
        ),
        snapshots=lambda wildcards: ancient(
            kept_files(PLAN.probes[wildcards.id].run, "safetensors")
        ),
        snapshots_digest=lambda wildcards: kept_files(
            PLAN.probes[wildcards.id].run, "sha256"
        ),
        audio=lambda wildcards: ancient(
            layout.shards(PLAN.probes[wildcards.id].run.manifest.corpus, "wav")
        ),
        splits=lambda wildcards: [
            layout.manifest(PLAN.probes[wildcards.id].run.manifest, f"{split}.jsonl")
            for split in PLAN.probes[wildcards.id].spec.splits
        ],
    output:
        rows="results/probes/{id}/rows.jsonl",
        counts="results/probes/{id}/counts.jsonl",
        hypotheses="results/probes/{id}/hypotheses.jsonl",
        record="results/probes/{id}/probe.json",
    log:
        "results/logs/probe/{id}.log",
    priority: first
    conda:
        "../../envs/tools.yaml"
    threads: EXECUTION.threads
    resources:
        runtime=240,
        mem_mb=8000,
        device=EXECUTION.device,
    params:
        probes=lambda wildcards: PLAN.probes[wildcards.id].spec_json,
    message:
        "probe {wildcards.id}"
    shell:
        "exec thaw --log {log:q} probe --probes {params.probes:q} --model {input.model:q}"
        " --snapshots {input.snapshots:q} --manifest {input.splits:q}"
        " --threads {threads:q} --device {resources.device:q} --rows {output.rows:q} --counts {output.counts:q}"
        " --hypotheses {output.hypotheses:q} --record {output.record:q}"


# One job a transfer, before any of its trainings is needed.
rule evidence:
    input:
        model=lambda wildcards: ancient(
            layout.run(PLAN.evidence[wildcards.id].run, "model.safetensors")
        ),
        digest=lambda wildcards: layout.run(
            PLAN.evidence[wildcards.id].run, "model.sha256"
        ),
        snapshots=lambda wildcards: ancient(
            kept_files(PLAN.evidence[wildcards.id].run, "safetensors")
        ),
        snapshots_digest=lambda wildcards: kept_files(
            PLAN.evidence[wildcards.id].run, "sha256"
        ),
        audio=lambda wildcards: ancient(
            [
                wav
                for manifest in (
                    PLAN.evidence[wildcards.id].run.manifest,
                    PLAN.evidence[wildcards.id].target,
                )
                for wav in layout.shards(manifest.corpus, "wav")
            ]
        ),
        source=lambda wildcards: layout.manifest(
            PLAN.evidence[wildcards.id].run.manifest,
            f"{PLAN.evidence[wildcards.id].spec.split}.jsonl",
        ),
        target=lambda wildcards: layout.manifest(
            PLAN.evidence[wildcards.id].target, "train.jsonl"
        ),
    output:
        "results/evidence/{id}/evidence.json",
    log:
        "results/logs/evidence/{id}.log",
    priority: first
    conda:
        "../../envs/tools.yaml"
    threads: EXECUTION.threads
    resources:
        runtime=240,
        mem_mb=8000,
        device=EXECUTION.device,
    params:
        evidence=lambda wildcards: PLAN.evidence[wildcards.id].spec_json,
    message:
        "evidence {wildcards.id}"
    shell:
        "exec thaw --log {log:q} evidence --evidence {params.evidence:q} --model {input.model:q}"
        " --snapshots {input.snapshots:q} --source {input.source:q} --target {input.target:q}"
        " --threads {threads:q} --device {resources.device:q} --out {output:q}"


rule score:
    input:
        hypotheses="results/decodes/{id}/hypotheses.jsonl",
    output:
        scores="results/scores/{id}/scores.json",
        counts="results/scores/{id}/counts.jsonl",
    log:
        "results/logs/score/{id}.log",
    priority: first
    localrule: True
    conda:
        "../../envs/tools.yaml"
    params:
        scoring=lambda wildcards: canonical_json(semantic(PLAN.config.scoring)),
        version=SCORE_VERSION,
    message:
        "score {wildcards.id}"
    shell:
        "exec thaw --log {log:q} score --scoring {params.scoring:q} --hypotheses {input.hypotheses:q}"
        " --scores {output.scores:q} --counts {output.counts:q}"
