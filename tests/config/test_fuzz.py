"""Whatever a config says, there is a plan or there are lines that say why not, in under a second.

`THAW_FUZZ=20000 pytest tests/config/test_fuzz.py` tries that many configs of each kind, other ones every time.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.planning.test_plan import CONFIG
from thaw.config.config import Config
from thaw.config.load import load, read_yaml, validate, with_includes
from thaw.errors import UserError
from thaw.planning.plan import resolve
from thaw.planning.showing import exhibits, report_spec

MORE = int(os.environ.get("THAW_FUZZ", "0"))
SECONDS = 1.0
SETTINGS = settings(
    max_examples=MORE or 150,
    derandomize=not MORE,
    deadline=None,  # the first example imports much; `outcome` looks at the time
    suppress_health_check=list(HealthCheck),
    database=None,
)
# DeepSpeech and beam search, QuartzNet and its augmentation, every kind of source that needs no file.
BASES = [CONFIG, *(with_includes(read_yaml(Path(f"config/{name}.yaml"))) for name in ("config", "prompts"))]


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a config."""
    if above:
        yield above
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*above, key))


def words() -> list[str]:
    """All keys and texts of the configs and of the schema: more apt than letters drawn at random."""
    found = {str(part) for base in BASES for place in places(base) for part in place}
    schema = Config.model_json_schema()
    for spec in schema["$defs"].values():
        found |= set(spec.get("properties", ()))
        for one in spec.get("properties", {}).values():
            found |= {str(value) for value in (*one.get("enum", ()), one.get("const", ""))}
    return sorted(found)


WORDS = words()
PLACES = [list(places(base)) for base in BASES]
ODD = ["", " ", "\0", "\n", "\ud83d", "{x}", "$(touch X)", "..", "/", "~nobody", "x" * 300, "a: b", ".nan", "1e3"]
NUMBERS = [0, -1, 1, 2, 10**9, 10**30, -(10**30), 0.0, -0.0, 0.5, 1e308, 5e-324, *map(float, ("inf", "-inf", "nan"))]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.integers(),
    st.floats(),
    st.sampled_from(WORDS),
    st.sampled_from(ODD),
    st.text(max_size=20),
    st.dates(),
    st.binary(max_size=5),
)
keys = st.one_of(st.sampled_from(WORDS), scalars)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=8,
)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A config with some of its values replaced, added, copied from elsewhere in it, or taken away."""
    which = draw(st.integers(0, len(BASES) - 1))
    raw = copy.deepcopy(BASES[which])
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(PLACES[which]))
        node: Any = raw
        for key in above:
            node = node[key] if isinstance(node, dict) and key in node else None
        if not isinstance(node, dict):
            continue  # within a list, or gone
        how = draw(st.sampled_from(["replace", "add", "copy", "drop"]))
        if how == "replace":
            node[last] = draw(values)
        elif how == "add":
            node[draw(keys)] = draw(values)
        elif how == "copy":
            node[draw(keys)] = copy.deepcopy(node.get(last))
        else:
            node.pop(last, None)
    return raw


def outcome(raw: Any, load_it: Any) -> str:
    """`plan`, or what a person is told. Anything else that is raised fails the test."""
    began = time.process_time()
    try:
        plan = resolve(load_it(raw))
        exhibits(plan)
        report_spec(plan)
        said = "plan"
    except UserError as error:
        said = str(error)
        assert said
        assert len(said.splitlines()) <= 21
        assert len(said) < 25_000
        said.encode()
    assert time.process_time() - began < SECONDS
    return said


outcome(CONFIG, validate)  # what is imported only when it is needed takes no example's time


@given(mutated())
@SETTINGS
def test_a_config_with_mistakes(raw: dict[str, Any]) -> None:
    outcome(raw, validate)


@given(values)
@SETTINGS
def test_any_values(raw: Any) -> None:
    outcome(raw if isinstance(raw, dict) else {"studies": raw}, validate)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode(errors="replace"))))
@SETTINGS
def test_any_bytes_as_a_file(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    assert outcome([path], load).startswith((str(path), "config: "))


@given(raw=mutated(), seed=st.randoms(use_true_random=False))
@SETTINGS
def test_a_file_with_damage(tmp_path_factory: Any, raw: dict[str, Any], seed: Any) -> None:
    """A config as text, some letters of which are lost, doubled or replaced by what YAML gives a meaning to."""
    try:
        text = list(yaml.safe_dump(raw, allow_unicode=True))
    except (yaml.YAMLError, TypeError, ValueError):
        return  # keys that cannot be sorted
    for _ in range(seed.randint(1, 4)):
        place = seed.randrange(len(text))
        text[place] *= seed.choice([0, 2])
        text[place] += seed.choice(["", "", *"{}[]:&*!|>'\"%@`#-? \n\t"])
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_bytes("".join(text).encode(errors="surrogatepass"))
    outcome([path], load)
