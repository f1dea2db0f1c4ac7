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
    priority: of_study
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
    priority: of_study
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


# The page of one study. The page of all is drawn beside it, from what is there by then: whoever waits can read it.
rule study_report:
    input:
        files=lambda wildcards: showing.report_spec(PLAN, wildcards.study).files(),
    output:
        html="results/{study}/{config}/report.html",
    log:
        "results/logs/report-{study}-{config}.log",
    wildcard_constraints:
        config=PLAN.config.name,
    priority: of_study
    localrule: True
    conda:
        "../../envs/tools.yaml"
    resources:
        all_studies=layout.report_spec(PLAN.config.name),
        page=REPORT,
    params:
        report=lambda wildcards: canonical_json(
            semantic(showing.report_spec(PLAN, wildcards.study))
        ),
    message:
        "report {output.html}"
    shell:
        "exec thaw --log {log:q} report --report @/dev/stdin --out {output.html:q}"
        " --so-far @{resources.all_studies:q} --so-far-out {resources.page:q} <<< {params.report:q}"


rule report:
    input:
        files=REPORT_SPEC.files(),
        studies=STUDY_REPORTS,
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
