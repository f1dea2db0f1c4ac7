# KenLM n-gram models of the training text; dev and test sentences are left out of it.


rule lm:
    input:
        train=lambda wildcards: layout.manifest(
            PLAN.lms[wildcards.id].manifest, "train.jsonl"
        ),
        dev=lambda wildcards: layout.manifest(
            PLAN.lms[wildcards.id].manifest, "dev.jsonl"
        ),
        test=lambda wildcards: layout.manifest(
            PLAN.lms[wildcards.id].manifest, "test.jsonl"
        ),
        extra=lambda wildcards: [
            text for text in [PLAN.lms[wildcards.id].spec.extra_text] if text
        ],
    output:
        binary="results/lms/{id}/lm.binary",
        lexicon="results/lms/{id}/lexicon.txt",
        record="results/lms/{id}/lm.json",
    log:
        "results/logs/lm/{id}.log",
    conda:
        "../../envs/tools.yaml"
    resources:
        runtime=240,
        mem_mb=16000,
    params:
        lm=lambda wildcards: PLAN.lms[wildcards.id].spec_json,
        text=lambda wildcards: PLAN.lms[wildcards.id].manifest.text_json,
    message:
        "language model {wildcards.id}"
    shell:
        "thaw --log {log} lm --lm {params.lm:q} --text {params.text:q} --train {input.train}"
        " --exclude {input.dev} {input.test}"
        " --binary {output.binary} --lexicon {output.lexicon} --record {output.record}"
