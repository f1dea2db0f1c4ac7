# From a corpus as published to manifests: fetch, audio, manifest.


# The corpus's own files stay in a folder that is no output, so that a failed attempt does not delete a download.
rule fetch:
    output:
        utterances="results/corpora/{id}/utterances.jsonl",
        rejects="results/corpora/{id}/rejects.tsv",
        record="results/corpora/{id}/source.json",
    log:
        "results/logs/fetch/{id}.log",
    priority: first
    retries: tries_again(2)
    conda:
        "../../envs/tools.yaml"
    threads: 1
    resources:
        runtime=720,
        mem_mb=2000,
        mirror=EXECUTION.mirror,
    params:
        source=lambda wildcards: PLAN.sources[wildcards.id].source_json,
        language=lambda wildcards: PLAN.sources[wildcards.id].spec.language,
    message:
        "fetch {wildcards.id}"
    shell:
        "thaw --log {log} fetch --source {params.source:q} --language {params.language}"
        " --threads {threads} --root results/corpora/{wildcards.id}/files --mirror={resources.mirror:q}"
        " --utterances {output.utterances} --rejects {output.rejects} --record {output.record}"


rule audio:
    input:
        utterances=lambda wildcards: layout.utterances(PLAN.audio[wildcards.id]),
    output:
        wav="results/audio/{id}/{shard}.wav",
        index="results/audio/{id}/{shard}.jsonl",
        rejects="results/audio/{id}/{shard}.rejects.tsv",
    log:
        "results/logs/audio/{id}-{shard}.log",
    priority: first
    conda:
        "../../envs/tools.yaml"
    threads: 2
    resources:
        runtime=120,
        mem_mb=2000,
    params:
        audio=lambda wildcards: PLAN.audio[wildcards.id].audio_json,
        shards=lambda wildcards: PLAN.audio[wildcards.id].shards,
    message:
        "convert shard {wildcards.shard} of {wildcards.id}"
    shell:
        "thaw --log {log} audio --audio {params.audio:q} --utterances {input.utterances} --threads {threads}"
        " --shard {wildcards.shard} --shards {params.shards}"
        " --wav {output.wav} --index {output.index} --rejects {output.rejects}"


rule manifest:
    input:
        utterances=lambda wildcards: layout.utterances(
            PLAN.manifests[wildcards.id].corpus
        ),
        corpus_rejects=lambda wildcards: layout.corpus_rejects(
            PLAN.manifests[wildcards.id].corpus
        ),
        # The index holds a digest of every clip: a touch or a copy of the audio itself makes nothing anew.
        wav=lambda wildcards: ancient(
            layout.shards(PLAN.manifests[wildcards.id].corpus, "wav")
        ),
        index=lambda wildcards: layout.shards(
            PLAN.manifests[wildcards.id].corpus, "jsonl"
        ),
        rejects=lambda wildcards: layout.shards(
            PLAN.manifests[wildcards.id].corpus, "rejects.tsv"
        ),
    output:
        train="results/manifests/{id}/train.jsonl",
        dev="results/manifests/{id}/dev.jsonl",
        test="results/manifests/{id}/test.jsonl",
        rejects="results/manifests/{id}/rejects.tsv",
        counts="results/manifests/{id}/counts.json",
    log:
        "results/logs/manifest/{id}.log",
    priority: first
    conda:
        "../../envs/tools.yaml"
    resources:
        runtime=30,
        mem_mb=2000,
    params:
        text=lambda wildcards: PLAN.manifests[wildcards.id].text_json,
        frames=lambda wildcards: PLAN.manifests[wildcards.id].frames_json,
    message:
        "manifests of {wildcards.id}"
    shell:
        "thaw --log {log} manifest --text {params.text:q} --frames {params.frames:q} --utterances {input.utterances}"
        " --index {input.index} --wav {input.wav} --rejects-in {input.corpus_rejects} {input.rejects}"
        " --train {output.train} --dev {output.dev} --test {output.test}"
        " --rejects {output.rejects} --counts {output.counts}"
