# From manifests to tied states: lexicon, alignment, decoding graph, and what the GMM itself recognises.


rule lexicon:
    input:
        manifests=lambda wildcards: [
            layout.manifest(PLAN.lexicons[wildcards.id].manifest, f"{split}.jsonl")
            for split in ("train", "dev", "test")
        ],
        # What they hold is part of the id, so an edit is another job, and a touch is none.
        own=lambda wildcards: ancient(PLAN.lexicons[wildcards.id].files),
    output:
        lexicon="results/lexicons/{id}/lexicon.txt",
        record="results/lexicons/{id}/lexicon.json",
    log:
        "results/logs/lexicon/{id}.log",
    priority: first
    conda:
        "../../envs/tools.yaml"
    resources:
        runtime=60,
        mem_mb=4000,
    params:
        lexicon=lambda wildcards: PLAN.lexicons[wildcards.id].spec_json,
        text=lambda wildcards: PLAN.lexicons[wildcards.id].manifest.text_json,
        extra=lambda wildcards: PLAN.lexicons[wildcards.id].extra_text,
        content=lambda wildcards: PLAN.lexicons[wildcards.id].content,
    message:
        "lexicon {wildcards.id}"
    shell:
        "exec thaw --log {log:q} lexicon --lexicon {params.lexicon:q} --text {params.text:q}"
        " --extra-text={params.extra:q} --content {params.content:q}"
        " --manifest {input.manifests:q} --out {output.lexicon:q} --record {output.record:q}"


# What is unfinished stays in a folder that is no output, so that a failed attempt goes on.
rule align:
    input:
        lexicon=lambda wildcards: layout.lexicon(PLAN.alignments[wildcards.id].lexicon),
        train=lambda wildcards: layout.train_data(PLAN.alignments[wildcards.id].data),
        dev=lambda wildcards: layout.manifest(
            PLAN.alignments[wildcards.id].data.manifest, "dev.jsonl"
        ),
        test=lambda wildcards: layout.manifest(
            PLAN.alignments[wildcards.id].data.manifest, "test.jsonl"
        ),
        audio=lambda wildcards: ancient(
            layout.shards(PLAN.alignments[wildcards.id].data.manifest.corpus, "wav")
        ),
    output:
        gmm="results/alignments/{id}/gmm.safetensors",
        train="results/alignments/{id}/train.safetensors",
        dev="results/alignments/{id}/dev.safetensors",
        test="results/alignments/{id}/test.safetensors",
        rejects="results/alignments/{id}/rejects.tsv",
        record="results/alignments/{id}/alignment.json",
    log:
        "results/logs/align/{id}.log",
    priority: first
    retries: tries_again(2)
    conda:
        "../../envs/tools.yaml"
    threads: EXECUTION.threads
    resources:
        runtime=1440,
        mem_mb=16000,
    params:
        alignment=lambda wildcards: PLAN.alignments[wildcards.id].spec_json,
    message:
        "align {wildcards.id}"
    shell:
        "exec thaw --log {log:q} align --alignment {params.alignment:q} --lexicon {input.lexicon:q}"
        " --train {input.train:q} --dev {input.dev:q} --test {input.test:q} --threads {threads:q}"
        " --state results/alignments/{wildcards.id:q}/state --out results/alignments/{wildcards.id:q}"


rule graph:
    input:
        gmm=lambda wildcards: layout.alignment(
            PLAN.graphs[wildcards.id].alignment, "gmm.safetensors"
        ),
        lexicon=lambda wildcards: layout.lexicon(PLAN.graphs[wildcards.id].lexicon),
        train=lambda wildcards: layout.manifest(
            PLAN.graphs[wildcards.id].lm.manifest, "train.jsonl"
        ),
        dev=lambda wildcards: layout.manifest(
            PLAN.graphs[wildcards.id].lm.manifest, "dev.jsonl"
        ),
        test=lambda wildcards: layout.manifest(
            PLAN.graphs[wildcards.id].lm.manifest, "test.jsonl"
        ),
        extra=lambda wildcards: ancient(
            [text for text in [PLAN.graphs[wildcards.id].lm.spec.extra_text] if text]
        ),
    output:
        graph="results/graphs/{id}/graph.fst",
        words="results/graphs/{id}/words.txt",
        record="results/graphs/{id}/graph.json",
    log:
        "results/logs/graph/{id}.log",
    priority: first
    conda:
        "../../envs/tools.yaml"
    resources:
        runtime=240,
        mem_mb=16000,
    params:
        lm=lambda wildcards: PLAN.graphs[wildcards.id].lm.spec_json,
        text=lambda wildcards: PLAN.graphs[wildcards.id].lm.manifest.text_json,
        content=lambda wildcards: PLAN.graphs[wildcards.id].lm.content,
    message:
        "decoding graph {wildcards.id}"
    shell:
        "exec thaw --log {log:q} graph --lm {params.lm:q} --text {params.text:q} --content={params.content:q}"
        " --train {input.train:q} --exclude {input.dev:q} {input.test:q} --model {input.gmm:q}"
        " --lexicon {input.lexicon:q} --out {output.graph:q}"


# The GMM's own words, scored by the same rule as all others.
rule gmm:
    input:
        gmm=lambda wildcards: layout.alignment(
            PLAN.gmms[wildcards.id].alignment, "gmm.safetensors"
        ),
        graph=lambda wildcards: layout.graph(PLAN.gmms[wildcards.id].graph),
        words=lambda wildcards: layout.graph(PLAN.gmms[wildcards.id].graph, "words.txt"),
        graph_record=lambda wildcards: layout.graph(
            PLAN.gmms[wildcards.id].graph, "graph.json"
        ),
        split=lambda wildcards: layout.manifest(
            PLAN.gmms[wildcards.id].manifest, f"{PLAN.gmms[wildcards.id].split}.jsonl"
        ),
        dev=lambda wildcards: [
            layout.manifest(one.manifest, "dev.jsonl")
            for one in [PLAN.gmms[wildcards.id]]
            if one.tunes
        ],
        audio=lambda wildcards: ancient(
            layout.shards(PLAN.gmms[wildcards.id].manifest.corpus, "wav")
        ),
    output:
        hypotheses="results/decodes/{id}/hypotheses.jsonl",
        record="results/decodes/{id}/decode.json",
    log:
        "results/logs/gmm/{id}.log",
    wildcard_constraints:
        id=GMMS,
    priority: first
    conda:
        "../../envs/tools.yaml"
    resources:
        runtime=720,
        mem_mb=8000,
    params:
        search=lambda wildcards: PLAN.gmms[wildcards.id].spec_json,
    message:
        "GMM on {wildcards.id}"
    shell:
        "exec thaw --log {log:q} gmm --search {params.search:q} --model {input.gmm:q} --graph {input.graph:q}"
        " --manifest {input.split:q} --tune-on {input.dev:q}"
        " --hypotheses {output.hypotheses:q} --record {output.record:q}"
