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
        "thaw decode --decoder {params.decoder:q} --model {input.model} --manifest {input.test}"
        " --tune-on {input.dev} --lm {input.lm} --lexicon {input.lexicon}"
        " --threads {threads} --device {resources.device}"
        " --hypotheses {output.hypotheses} --record {output.record} 2>&1 | tee {log}"


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
        scoring=canonical_json(semantic(PLAN.config.scoring)),
        version=SCORE_VERSION,
    message:
        "score {wildcards.id}"
    shell:
        "thaw score --scoring {params.scoring:q} --hypotheses {input.hypotheses}"
        " --scores {output.scores} --counts {output.counts} 2>&1 | tee {log}"
