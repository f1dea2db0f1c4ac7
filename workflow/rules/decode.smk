# Hypotheses of the test split, and their scores.


rule decode:
    input:
        model=lambda wildcards: ancient(
            layout.run(PLAN.decodes[wildcards.id].run, "model.safetensors")
        ),
        digest=lambda wildcards: layout.run(
            PLAN.decodes[wildcards.id].run, "model.sha256"
        ),
        audio=lambda wildcards: ancient(
            layout.shards(PLAN.decodes[wildcards.id].run.manifest.corpus, "wav")
        ),
        test=lambda wildcards: layout.manifest(
            PLAN.decodes[wildcards.id].run.manifest, "test.jsonl"
        ),
        dev=tuning_manifest,
        lm=lambda wildcards: ancient(lm_file(wildcards, "lm.binary")),
        lm_record=lambda wildcards: lm_file(wildcards, "lm.json"),
        lexicon=lambda wildcards: lm_file(wildcards, "lexicon.txt"),
    output:
        hypotheses="results/decodes/{id}/hypotheses.jsonl",
        record="results/decodes/{id}/decode.json",
    log:
        "results/logs/decode/{id}.log",
    conda:
        "../../envs/tools.yaml"
    threads: EXECUTION.threads
    resources:
        runtime=240,
        mem_mb=8000,
        device=EXECUTION.device,
    params:
        decoder=lambda wildcards: PLAN.decodes[wildcards.id].spec_json,
    message:
        "decode {wildcards.id}"
    shell:
        "exec thaw --log {log:q} decode --decoder {params.decoder:q} --model {input.model:q} --manifest {input.test:q}"
        " --tune-on {input.dev:q} --lm {input.lm:q} --lexicon {input.lexicon:q}"
        " --threads {threads:q} --device {resources.device:q}"
        " --hypotheses {output.hypotheses:q} --record {output.record:q}"


rule score:
    input:
        hypotheses="results/decodes/{id}/hypotheses.jsonl",
    output:
        scores="results/scores/{id}/scores.json",
        counts="results/scores/{id}/counts.jsonl",
    log:
        "results/logs/score/{id}.log",
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
