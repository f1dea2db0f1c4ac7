# From a corpus as published to manifests: fetch, audio, manifest.


# The corpus's own files stay in a folder that is no output, so that a failed attempt does not delete a download.
rule fetch:
    input:
        # The user's own tables. What they hold is part of the id, so an edit is another job, and a touch is none.
        own=lambda wildcards: ancient(own_files(PLAN.sources[wildcards.id])),
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
        mirror=lambda wildcards: EXECUTION.mirror,
    params:
        source=lambda wildcards: PLAN.sources[wildcards.id].source_json,
        language=lambda wildcards: PLAN.sources[wildcards.id].spec.language,
        content=lambda wildcards: PLAN.sources[wildcards.id].content,
    message:
        "fetch {wildcards.id}"
    shell:
        "exec thaw --log {log:q} fetch --source {params.source:q} --language {params.language:q}"
        " --content={params.content:q} --threads {threads:q} --root results/corpora/{wildcards.id:q}/files --mirror={resources.mirror:q}"
        " --utterances {output.utterances:q} --rejects {output.rejects:q} --record {output.record:q}"


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
    threads: 1  # one that asks for two waits, on two cores, until both are idle at once
    resources:
        runtime=120,
        mem_mb=2000,
    params:
        audio=lambda wildcards: PLAN.audio[wildcards.id].audio_json,
        shards=lambda wildcards: PLAN.audio[wildcards.id].shards,
    message:
        "convert shard {wildcards.shard} of {wildcards.id}"
    shell:
        "exec thaw --log {log:q} audio --audio {params.audio:q} --utterances {input.utterances:q} --threads {threads:q}"
        " --shard {wildcards.shard:q} --shards {params.shards:q}"
        " --wav {output.wav:q} --index {output.index:q} --rejects {output.rejects:q}"


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
        "exec thaw --log {log:q} manifest --text {params.text:q} --frames {params.frames:q} --utterances {input.utterances:q}"
        " --index {input.index:q} --wav {input.wav:q} --rejects-in {input.corpus_rejects:q} {input.rejects:q}"
        " --train {output.train:q} --dev {output.dev:q} --test {output.test:q}"
        " --rejects {output.rejects:q} --counts {output.counts:q}"


rule part:
    input:
        train=lambda wildcards: layout.manifest(
            PLAN.parts[wildcards.id].manifest, "train.jsonl"
        ),
    output:
        train="results/parts/{id}/train.jsonl",
    log:
        "results/logs/part/{id}.log",
    priority: first
    localrule: True
    conda:
        "../../envs/tools.yaml"
    params:
        part=lambda wildcards: PLAN.parts[wildcards.id].spec_json,
    message:
        "part {wildcards.id}"
    shell:
        "exec thaw --log {log:q} part --part {params.part:q} --train {input.train:q} --out {output.train:q}"
