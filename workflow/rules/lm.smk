# What is made from training text: KenLM n-gram models (dev and test sentences are left out of them), words, byte pairs.


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
        # Its content is part of the id, so an edit is another job, and a touch is none.
        extra=lambda wildcards: ancient(
            [text for text in [PLAN.lms[wildcards.id].spec.extra_text] if text]
        ),
    output:
        binary="results/lms/{id}/lm.binary",
        lexicon="results/lms/{id}/lexicon.txt",
        record="results/lms/{id}/lm.json",
    log:
        "results/logs/lm/{id}.log",
    priority: first
    conda:
        "../../envs/tools.yaml"
    resources:
        runtime=240,
        mem_mb=16000,
    params:
        lm=lambda wildcards: PLAN.lms[wildcards.id].spec_json,
        text=lambda wildcards: PLAN.lms[wildcards.id].manifest.text_json,
        content=lambda wildcards: PLAN.lms[wildcards.id].content,
    message:
        "language model {wildcards.id}"
    shell:
        "exec thaw --log {log:q} lm --lm {params.lm:q} --text {params.text:q} --content={params.content:q}"
        " --train {input.train:q}"
        " --exclude {input.dev:q} {input.test:q}"
        " --binary {output.binary:q} --lexicon {output.lexicon:q} --record {output.record:q}"


rule units:
    input:
        train=lambda wildcards: layout.manifest(
            PLAN.units[wildcards.id].manifest, "train.jsonl"
        ),
        # Its content is part of the id, so an edit is another job, and a touch is none.
        own=lambda wildcards: ancient(own_words(PLAN.units[wildcards.id])),
    output:
        units="results/units/{id}/units.json",
        record="results/units/{id}/record.json",
    log:
        "results/logs/units/{id}.log",
    priority: first
    localrule: True
    conda:
        "../../envs/tools.yaml"
    params:
        units=lambda wildcards: PLAN.units[wildcards.id].spec_json,
        content=lambda wildcards: PLAN.units[wildcards.id].content,
    message:
        "units {wildcards.id}"
    shell:
        "exec thaw --log {log:q} units --units {params.units:q} --content={params.content:q} --train {input.train:q}"
        " --out {output.units:q} --record {output.record:q}"
