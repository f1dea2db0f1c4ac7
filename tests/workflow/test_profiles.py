"""Profiles say of every rule that computes on a GPU how much of one its job takes."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.workflow.conftest import REPOSITORY

RULE = re.compile(r"^(?:rule (?P<name>\w+):|use rule (?P<base>\w+) as (?P<other>\w+) with:)$", re.MULTILINE)


def rules_on_a_gpu() -> set[str]:
    """The rules whose jobs are given a device, and those that are one of these with further outputs."""
    found: set[str] = set()
    for path in sorted((REPOSITORY / "workflow" / "rules").glob("*.smk")):
        text = path.read_text(encoding="utf-8")
        for head in RULE.finditer(text):
            after = RULE.search(text, head.end())
            body = text[head.end() : after.start() if after else len(text)]
            if head["base"] in found or (head["name"] and "device=EXECUTION.device" in body):
                found.add(head["name"] or head["other"])
    return found


def test_rules_on_a_gpu_are_found() -> None:
    assert rules_on_a_gpu() >= {"train", "train_keeping", "emit", "emit_states_tuning", "decode", "probe", "evidence"}


@pytest.mark.parametrize(("profile", "resource"), [("local", "gpu_share"), ("slurm", "gpu")])
def test_a_profile_knows_them_all(profile: str, resource: str) -> None:
    """Or their jobs crowd one GPU, all at once; on a cluster they would get none."""
    text = (REPOSITORY / "workflow" / "profiles" / profile / "profile.yaml").read_text(encoding="utf-8")
    said = yaml.safe_load(text)["set-resources"]
    assert {rule for rule, given in said.items() if given.get(resource)} == rules_on_a_gpu()
