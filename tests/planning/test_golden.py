"""Identities that must not move: of listings, audio, manifests, language models and checkpoints.

Those of runs and decodes are in test_plan.py. Where the meaning of a room changed, raise its version, on purpose.
"""

from __future__ import annotations

from typing import Any

from tests.planning.test_plan import BASE, CONFIG
from thaw.config.load import merged, validate
from thaw.planning.plan import Plan, resolve

PUBLISHED: dict[str, dict[str, Any]] = {
    "collective": {"kind": "commonvoice", "dataset": "abc"},
    "librispeech": {"kind": "librispeech"},
    "mls": {"kind": "mls", "language": "german"},
    "prompts": {"kind": "prompts", "voice": "it"},
    "joined": {"kind": "union", "parts": {"a": {"kind": "prompts", "voice": "it"}, "b": {"kind": "librispeech"}}},
}


def on(sources: dict[str, dict[str, Any]]) -> Plan:
    """The golden study with other targets."""
    config = merged(CONFIG, {"studies": {"freezing": {"targets": list(sources)}}})
    config["corpora"] = {name: {"label": name, "language": "de", "source": one} for name, one in sources.items()}
    config["corpora"]["english"] = CONFIG["corpora"]["english"]
    return resolve(validate(config))


def test_synthesised_corpora() -> None:
    assert sorted(BASE.sources) == ["english-14e682f1e1", "german-03f7949138"]
    assert sorted(BASE.audio) == ["english-808998bd9b", "german-8d3c3fec75"]
    assert sorted(BASE.manifests) == ["english-deepspeech-698462d052", "german-deepspeech-a99ab30663"]
    assert sorted(BASE.lms) == ["english-3gram-f56eee38fc", "german-3gram-2f918d2868"]


def test_corpora_that_others_publish() -> None:
    plan = on(PUBLISHED)
    assert sorted(plan.sources) == [
        "collective-d2c8581611",
        "english-14e682f1e1",
        "joined-cacf5b63e6",
        "librispeech-fdae4111f6",
        "mls-7631f986b3",
        "prompts-b31ee58748",
    ]
    assert sorted(plan.manifests) == [
        "collective-deepspeech-359608e67d",
        "english-deepspeech-698462d052",
        "joined-deepspeech-2997021644",
        "librispeech-deepspeech-0808ebb3b0",
        "mls-deepspeech-97a96c2555",
        "prompts-deepspeech-8b1e118c13",
    ]
    assert sorted(plan.lms) == [
        "collective-3gram-c3bd7e143e",
        "english-3gram-f56eee38fc",
        "joined-3gram-9c631ef826",
        "librispeech-3gram-5248da5635",
        "mls-3gram-256e1deacb",
        "prompts-3gram-9b0c3dd2c9",
    ]


def test_a_checkpoint_known_by_its_checksum() -> None:
    """Where it lies is no part of what it is."""
    for path in ("README.md", "Makefile"):
        spec = {"kind": "deepspeech-tf", "path": path, "sha256": "0" * 64, "language": "en"}
        source = {"corpus": None, "recipe": None, "checkpoint": "released"}
        over = {"checkpoints": {"released": spec}, "studies": {"freezing": {"source": source}}}
        plan = resolve(validate(merged(CONFIG, over)))
        assert list(plan.checkpoints) == ["released-ae17479969"]
        assert sorted(plan.runs) == [
            "german-deepspeech-frozen-0-s1-83d1226338",
            "german-deepspeech-frozen-2-s1-1f67c14c30",
            "german-deepspeech-scratch-s1-c41e2a17a8",
        ]
