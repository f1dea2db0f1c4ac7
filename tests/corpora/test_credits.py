"""Licence and citation, for the report."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import TypeAdapter

from thaw.config.sources import PlainSource, Source
from thaw.corpora.credits import CREDITS, credit


def credited(**source: Any) -> tuple[str, str]:
    parsed: Source = TypeAdapter(Source).validate_python(source)
    return credit(parsed)


def test_every_published_corpus_has_both() -> None:
    kinds = {get_args(one.model_fields["kind"].annotation)[0] for one in get_args(get_args(PlainSource)[0])}
    assert kinds - {"prompts"} - CREDITS.keys() == {"manifest", "table", "kaldi", "text"}
    assert all(licence and citation for licence, citation in CREDITS.values())


@pytest.mark.parametrize(("voice", "licence"), [("en", "CC BY-SA 3.0"), ("it", "CC BY 3.0"), ("ru", "CC BY 3.0")])
def test_prompts_name_their_reader(voice: str, licence: str) -> None:
    found = credited(kind="prompts", voice=voice)
    assert found[0] == licence
    assert f"asterisk-core-sounds-{voice}, recorded by" in found[1]


def test_a_union_has_each_of_its_parts_once() -> None:
    parts = {"a": {"kind": "prompts", "voice": "en"}, "b": {"kind": "librispeech"}, "c": {"kind": "librispeech"}}
    assert credited(kind="union", parts=parts)[0] == "CC BY-SA 3.0; CC BY 4.0"
    assert credited(kind="table", path="x") == ("", "")
    assert credited(kind="text", path="x") == ("", "")
    assert credited(kind="text", packages=["scipy", "numpy"]) == ("BSD-3-Clause", "docstrings of scipy, numpy")
