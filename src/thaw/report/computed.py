"""What the runs of a study were computed on, in sentences: processor, instruction set, libraries; are all alike?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

# These first, then whatever else a record knows, in alphabetical order.
FIRST = ("device", "gpu", "processor", "machine", "cpu_capability", "torch", "numpy", "threads", "processes", "python")

PLAIN = ("libraries", "instruction_sets")  # groups whose names need no word before them
DIGESTS = "arithmetic "  # of small calculations: they tell machines apart, and say nothing by themselves

Facts = Mapping[str, Any]


def computed(records: Sequence[Facts]) -> list[str]:
    """Sentences on the environments in run.json records; none without a record."""
    every = [_flat(record.get("environment", {})) for record in records]
    if not every:
        return []
    counts = {key: Counter(_text(facts.get(key, "not recorded")) for facts in every) for key in _keys(every)}
    alike = [f"{key.replace('_', ' ')} {next(iter(found))}" for key, found in counts.items()
             if len(found) == 1 and not key.startswith(DIGESTS)]  # fmt: skip
    sentences = [f"Computed on: {'; '.join(alike)}."] if alike else []
    differing = [
        f"{key.replace('_', ' ')} {', '.join(f'{value} ({_runs(n)})' for value, n in sorted(found.items()))}"
        for key, found in counts.items() if len(found) > 1
    ]  # fmt: skip
    if differing:
        sentences.append(
            f"Runs of this study come from differing environments: {'; '.join(differing)}. The same training gives "
            "other bits on another instruction set, thread count or library, as another random seed would."
        )
    moved = sum(bool(record.get("earlier_environments")) for record in records)
    if moved:
        sentences.append(f"{_runs(moved)} went on in another environment than that of the beginning.")
    return sentences


def _keys(every: Sequence[Facts]) -> list[str]:
    known = {key for facts in every for key in facts}
    return [*(key for key in FIRST if key in known), *sorted(known.difference(FIRST))]


def _flat(facts: Facts) -> dict[str, Any]:
    """Facts with those of a group under names of their own: the libraries, and what limits instruction sets."""
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        group = "" if key in PLAIN else f"{key} "
        flat |= {group + name: value[name] for name in value} if isinstance(value, dict) else {key: value}
    return flat


def _text(value: Any) -> str:
    if value == "":
        return "not recorded"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
