# Tables, figures, findings and the report: drawn from scores, metrics and counts only.
# Specs go through standard input: those of a hundred runs are longer than Linux lets one argument be (128 kB).


rule table:
    input:
        files=lambda wildcards: EXHIBITS[wildcards.study, wildcards.name].inputs,
    output:
        csv="results/{study}/{config}/{name}.csv",
        md="results/{study}/{config}/{name}.md",
        tex="results/{study}/{config}/{name}.tex",
        json="results/{study}/{config}/{name}.json",
    log:
        "results/logs/exhibit/{study}-{config}-{name}.log",
    wildcard_constraints:
        name="table[a-z0-9-]*",
        config=PLAN.config.name,
    localrule: True
    conda:
        "../../envs/tools.yaml"
    params:
        exhibit=lambda wildcards: EXHIBITS[wildcards.study, wildcards.name].spec_json,
    message:
        "{wildcards.study}: {wildcards.name}"
    shell:
        "exec thaw --log {log:q} exhibit --exhibit @/dev/stdin --out {output:q} <<< {params.exhibit:q}"


rule figure:
    input:
        files=lambda wildcards: EXHIBITS[wildcards.study, wildcards.name].inputs,
    output:
        png="results/{study}/{config}/{name}.png",
        pdf="results/{study}/{config}/{name}.pdf",
        csv="results/{study}/{config}/{name}.csv",
    log:
        "results/logs/exhibit/{study}-{config}-{name}.log",
    wildcard_constraints:
        name="figure[a-z0-9-]*",
        config=PLAN.config.name,
    localrule: True
    conda:
        "../../envs/tools.yaml"
    params:
        exhibit=lambda wildcards: EXHIBITS[wildcards.study, wildcards.name].spec_json,
    message:
        "{wildcards.study}: {wildcards.name}"
    shell:
        "exec thaw --log {log:q} exhibit --exhibit @/dev/stdin --out {output:q} <<< {params.exhibit:q}"


use rule table as findings with:
    output:
        md="results/{study}/{config}/{name}.md",
        json="results/{study}/{config}/{name}.json",
    wildcard_constraints:
        name="findings",
        config=PLAN.config.name,


rule report:
    input:
        files=REPORT_SPEC.files(),
    output:
        html=REPORT,
    log:
        f"results/logs/report-{PLAN.config.name}.log",
    localrule: True
    conda:
        "../../envs/tools.yaml"
    params:
        report=lambda wildcards: canonical_json(semantic(REPORT_SPEC)),
    message:
        "report {output.html}"
    shell:
        "exec thaw --log {log:q} report --report @/dev/stdin --out {output.html:q} <<< {params.report:q}"
