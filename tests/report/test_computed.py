"""What a report says of the machines behind a study."""

from __future__ import annotations

from typing import Any

from thaw.report.computed import computed

HERE: dict[str, Any] = {
    "torch": "2.11.0",
    "processor": "A CPU",
    "cpu_capability": "AVX512",
    "threads": 1,
    "libraries": {"mkl": "2024.2", "onednn": "3.10"},
    "instruction_sets": {},
    "arithmetic": {"product": "12ab34cd"},
}


def test_facts_are_named_once_where_all_runs_share_them() -> None:
    [sentence] = computed([{"environment": HERE}, {"environment": HERE}])
    assert sentence == (
        "Computed on: processor A CPU; cpu capability AVX512; torch 2.11.0; threads 1; mkl 2024.2; onednn 3.10."
    )


def test_differing_environments_are_told_and_counted() -> None:
    other = {"environment": HERE | {"cpu_capability": "AVX2", "threads": 2}}
    alike, differing = computed([{"environment": HERE}, other, other | {"earlier_environments": []}])
    assert "cpu capability" not in alike
    assert differing.startswith(
        "Runs of this study come from differing environments: cpu capability AVX2 (2 runs), AVX512 (1 run); "
        "threads 1 (1 run), 2 (2 runs). The same training gives other bits"
    )


def test_other_results_of_small_calculations_are_a_difference() -> None:
    other = {"environment": HERE | {"arithmetic": {"product": "00000000"}, "instruction_sets": {"MKL_CBWR": "AVX2"}}}
    _, differing = computed([{"environment": HERE}, other])
    assert "MKL CBWR AVX2 (1 run), not recorded (1 run)" in differing
    assert "arithmetic product 00000000 (1 run), 12ab34cd (1 run)" in differing


def test_a_resume_elsewhere_is_told() -> None:
    moved = computed([{"environment": HERE, "earlier_environments": [HERE]}, {"environment": HERE}])
    assert moved[1] == "1 run went on in another environment than that of the beginning."


def test_what_was_not_recorded_is_said_so() -> None:
    assert computed([]) == []
    _, differing = computed(
        [{"environment": {"thaw": "", "torch": "2"}}, {"environment": {"thaw": "abc", "torch": "2"}}]
    )
    assert "thaw abc (1 run), not recorded (1 run)" in differing
