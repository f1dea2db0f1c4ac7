"""Every number that a config may hold ends somewhere, and neither true nor .inf is one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from thaw.config.config import Config
from thaw.config.numbers import Counts, Float, Int, Levels

SCHEMA = Config.model_json_schema()


def numbers(node: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every place of the schema that takes a number."""
    if isinstance(node, dict):
        if node.get("type") in ("integer", "number") and not {"enum", "const"} & node.keys():
            yield where, node
        for key, inner in node.items():
            yield from numbers(inner, f"{where}.{key}" if key not in ("properties", "$defs") else where)
    elif isinstance(node, list):
        for inner in node:
            yield from numbers(inner, where)


def test_every_number_has_two_ends() -> None:
    """A field of a plain `int` or `float` fails here: take a type of `thaw.config.numbers`."""
    lower, upper = {"minimum", "exclusiveMinimum", "ge", "gt"}, {"maximum", "exclusiveMaximum", "le", "lt"}
    found = list(numbers(SCHEMA, ""))
    assert len(found) > 50
    assert [where for where, node in found if not (lower & node.keys() and upper & node.keys())] == []


@pytest.mark.parametrize("kind", [Int, Float])
@pytest.mark.parametrize("value", [True, False, float("inf"), float("nan"), "inf", None, [1]])
def test_what_is_no_number(kind: Any, value: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(value)


def test_ranges_ascend() -> None:
    assert TypeAdapter(Levels).validate_python([25, 25]) == (25, 25)
    assert TypeAdapter(Counts).validate_python([1, 3]) == (1, 3)
    for kind in (Levels, Counts):
        with pytest.raises(ValidationError, match="smaller one first"):
            TypeAdapter(kind).validate_python([3, 2])


def test_what_yaml_takes_for_text_is_a_number_still() -> None:
    """YAML 1.1 reads 1e-4 as text."""
    assert TypeAdapter(Float).validate_python("1e-4") == 1e-4
