# The entry from the repository root; the workflow itself is workflow/Snakefile, where the workflow catalog looks for it.
include: "workflow/Snakefile"


workflow.default_target = "all"
