"""Every mistake in a config is found before anything runs, in one line that says where and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thaw.config.load import load, merged, read_yaml, validate, with_includes
from thaw.errors import UserError

DEFAULT = Path("config/config.yaml")
SAME = {name: {"alphabet": " abc"} for name in ("en", "de", "es")}


def changed(**over: Any) -> dict[str, Any]:
    return merged(with_includes(read_yaml(DEFAULT)), over)


def test_the_default_config_is_valid() -> None:
    config = load([DEFAULT])
    assert config.scale == "mini"
    assert len(config.studies["freezing"].treatments) == 8


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"corpora": {"german": {"sourc": 1}}}, ["corpora.german.sourc", "unknown key", "'source'"]),
        ({"corpora": {"german": {"source": {"voicee": 1}}}}, ["corpora.german.source", "voicee", "'voice'"]),
        ({"corpora": {"german": {"source": {"kind": "tape"}}}}, ["corpora.german.source", "synthetic"]),
        ({"corpora": {"german": {"language": "gr"}}}, ["corpora.german.language", "'gr'", "de"]),
        ({"models": {"deepspeech": {"kind": "tape"}}}, ["models.deepspeech", "'tape'", "deepspeech"]),
        ({"recipes": {"finetune": {"epochs": -1}}}, ["recipes.finetune.epochs", "-1"]),
        ({"lexicons": {"gr": {"kind": "espeak"}}}, ["lexicons.gr", "'gr' is not there", "de"]),
        ({"lexicons": {"de": {"kind": "file", "path": "no.txt"}}}, ["lexicons.de.path", "no.txt: no such file"]),
        ({"alignments": {"a": {"languages": {"gr": {}}}}}, ["alignments.a.languages", "'gr' is not there"]),
        ({"alignments": {"a": {"leaves": 9, "gaussians": 8}}}, ["alignments.a", "8 are fewer than the 9 leaves"]),
        (
            {"alignments": {"a": {"languages": {"de": {"leaves": 0}}}}},
            ["alignments.a", "languages.de.leaves", "greater than or equal to 1"],
        ),
        ({"treatments": {"frozen-1": {"freeze": ["layer1"]}}}, ["frozen-1.freeze", "'layer1'", "'layer_1'", "lstm"]),
        (
            {"treatments": {"frozen-1": {"recipe": {"learning_rat": 1}}}},
            ["frozen-1.recipe.learning_rat", "'learning_rate'"],
        ),
        ({"treatments": {"frozen-1": {"freeze": ["first-7"]}}}, ["frozen-1.freeze", "'first-7'", "first-N"]),
        ({"treatments": {"frozen-1": {"freeze": ["last-1"]}}}, ["frozen-1", "both reset and frozen", "layer_6"]),
        ({"treatments": {"frozen-1": {"freeze": ["first-6"], "reset": []}}}, ["frozen-1.freeze", "nothing is left"]),
        ({"treatments": {"frozen-1": {"model": "deepspeech"}}}, ["frozen-1", "study's model only"]),
        ({"treatments": {"scratch": {"model": "quartz"}}}, ["scratch.model", "'quartz'"]),
        ({"treatments": {"frozen-0": {"output_rows": "shared", "reset": ["lstm"]}}}, ["frozen-0", "reset layer_6"]),
        ({"treatments": {"frozen-0": {"letters": {"ä": "a"}}}}, ["frozen-0", "output_rows: shared"]),
        ({"recipes": {"finetune": {"weight_decay": 0.1}}}, ["recipes.finetune", "adam-tf has none"]),
        ({"recipes": {"finetune": {"warmup_steps": 1, "warmup_ratio": 0.1}}}, ["recipes.finetune", "not both"]),
        (
            {"treatments": {"frozen-0": {"optimizer_state": "transferred", "recipe": {"optimizer": "novograd"}}}},
            ["frozen-0.optimizer_state", "adam-tf", "novograd"],
        ),
        (
            {"treatments": {"frozen-0": {"recipe": {"min_learning_rate": 0.1}}}},
            ["frozen-0.recipe", "constant schedule"],
        ),
        (
            {"decoders": {"both": {"kind": "joint"}}, "studies": {"freezing": {"decoders": ["greedy", "both"]}}},
            ["studies.freezing.decoders", "'both' needs a model with a decoder", "models.deepspeech"],
        ),
        (
            {"recipes": {"finetune": {"task": {"kind": "ctc-attention"}}}},
            ["studies.freezing:", "models.deepspeech", "recipes.finetune", "without a decoder", "not ctc-attention"],
        ),
        (
            {"treatments": {"frozen-0": {"recipe": {"task": {"kind": "ctc-attention"}}}}},
            ["treatments.frozen-0:", "without a decoder learns anything but ctc-attention"],
        ),
        (
            {"treatments": {"frozen-0": {"recipe": {"task": {"kind": "ctc-attention", "ctc_weight": 1}}}}},
            ["frozen-0.recipe.task.ctc-attention.ctc_weight", "less than 1"],
        ),
        ({"treatments": {"scratch": {"freeze": ["lstm"]}}}, ["treatments.scratch", "scratch leaves nothing"]),
        ({"treatments": {"frozen-1": {"reset": ["layer_1"]}}}, ["frozen-1", "both reset and frozen"]),
        (
            {"studies": {"freezing": {"treatments": ["scratch", "frozen-0", "frozn-1"]}}},
            ["freezing.treatments", "'frozn-1'", "'frozen-1'"],
        ),
        ({"studies": {"freezing": {"targets": ["german", "german"]}}}, ["freezing.targets", "twice"]),
        ({"studies": {"freezing": {"target_recipes": {"grman": {}}}}}, ["target_recipes", "'grman'", "'german'"]),
        (
            {"studies": {"freezing": {"target_recipes": {"german": {"epoch": 3}}}}},
            ["freezing.target_recipes.german.epoch", "'epochs'"],
        ),
        ({"studies": {"freezing": {"decoders": ["viterbi"]}}}, ["freezing.decoders", "'viterbi'", "greedy"]),
        ({"studies": {"freezing": {"kind": "melting"}}}, ["freezing.kind", "freezing"]),
        ({"languages": {"de": {"alphabet": "abc"}}}, ["languages.de.alphabet", "space"]),
        ({"languages": {"de": {"alphabet": " aab"}}}, ["languages.de.alphabet", "twice"]),
        ({"studies": {"freezing": {"baseline": "scrach"}}}, ["freezing.baseline", "'scratch'"]),
        ({"name": "Mini Scale"}, ["name"]),
        ({"execution": {"state": "../elsewhere"}}, ["execution.state", ".."]),
        ({"studies": dict.fromkeys(changed()["studies"])}, ["studies", "at least 1"]),
        ({"execution": {"state": ""}}, ["execution.state", "folder"]),
        # numbers: finite, in order, and with an end
        ({"recipes": {"finetune": {"epochs": True}}}, ["recipes.finetune.epochs", "not true or false"]),
        ({"recipes": {"finetune": {"learning_rate": True}}}, ["learning_rate", "not true or false"]),
        ({"recipes": {"finetune": {"learning_rate": float("inf")}}}, ["finetune.learning_rate", "finite"]),
        ({"treatments": {"frozen-1": {"recipe": {"epsilon": float("nan")}}}}, ["frozen-1.recipe.epsilon", "finite"]),
        ({"decoders": {"lm": {"alpha": float("-inf")}}}, ["decoders.lm.alpha", "finite"]),
        ({"decoders": {"lm": {"tune": {"alpha": [3, 0]}}}}, ["tune.alpha", "smaller one first"]),
        ({"decoders": {"lm": {"language_model": {"order": 1}}}}, ["language_model.order", "2"]),
        ({"decoders": {"lm": {"beam": 10**9}}}, ["decoders.lm.beam.beam", "100000"]),
        ({"corpora": {"german": {"source": {"snr_db": [40, 25]}}}}, ["snr_db", "smaller one first"]),
        ({"corpora": {"german": {"source": {"phrases": [3, 1]}}}}, ["phrases", "smaller one first"]),
        ({"models": {"deepspeech": {"hidden": 10**9}}}, ["hidden", "100000"]),
        ({"scoring": {"level": 1.0}}, ["scoring.level", "less than 1"]),
        ({"recipes": {"finetune": {"batch_size": 10**9}}}, ["batch_size", "100000"]),
        ({"recipes": {"finetune": {"epochs": 10**500}}}, ["epochs", "digits"]),
        ({"recipes": {"finetune": {"batch_seconds": 60, "batch_size": 12}}}, ["batch_seconds", "leave one"]),
        (
            {"recipes": {"finetune": {"batch_seconds": 60, "batch_size": 24, "drop_last": True}}},
            ["drop_last: no batch"],
        ),
        (
            {"recipes": {"finetune": {"batch_seconds": 60, "batch_size": 24, "microbatch_seconds": 60}}},
            ["microbatch_seconds", "one part"],
        ),
        ({"studies": {"freezing": {"seeds": [1, 1, 1]}}}, ["freezing.seeds", "1 is given twice"]),
        ({"studies": {"freezing": {"seeds": list(range(1001))}}}, ["freezing.seeds", "1000"]),
        ({"studies": {"freezing": {"style": {"scratch": "blau"}}}}, ["style.scratch", "no colour", "'blau'"]),
        # texts that no file, no terminal and no Snakemake can hold
        ({"corpora": {"german": {"label": "a\0b"}}}, ["german.label", "no file can"]),
        ({"corpora": {"german": {"label": "\ud83d"}}}, ["german.label", "no file can"]),
        ({"corpora": {"german": {"two\nlines": 1}}}, ["two\\nlines", "unknown key"]),
        ({"name": "x" * 101}, ["name", "100"]),
        (
            {"decoders": {"lm": {"language_model": {"extra_text": "x" * 300}}}},
            ["lm.language_model.extra_text", "no such file"],
        ),
        ({"decoders": {"lm": {"language_model": {"extra_text": "~nobody/x"}}}}, ["extra_text", "no such file"]),
        # an output layer that is kept has the source's alphabet
        ({"treatments": {"frozen-1": {"reset": []}}}, ["frozen-1", "german", "reset it"]),
        (
            {
                "studies": {"freezing": {"target_recipes": {"german": {"optimizer": "novograd", "weight_decay": 0.1}}}},
                "treatments": {"frozen-1": {"recipe": {"optimizer": "adam-tf"}}},
            },
            ["frozen-1.recipe, after studies.freezing.target_recipes.german", "adam-tf has none"],
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_is_allowed(over: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        validate(changed(**over))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for part in said:
        assert part in message


def test_a_corpus_folder_that_is_not_there_is_named() -> None:
    source = {"kind": "commonvoice", "path": "nowhere/de"}
    raw = changed()
    raw["corpora"]["german"]["source"] = source
    with pytest.raises(UserError, match=r"corpora\.german\.source\.path: nowhere/de: no such"):
        validate(raw)


def test_several_mistakes_are_all_reported() -> None:
    over = {"recipes": {"finetune": {"epochs": 0}, "pretrain": {"batch_size": 0}}}
    with pytest.raises(UserError) as caught:
        validate(changed(**over))
    assert len(str(caught.value).splitlines()) == 2


def test_a_kept_output_layer_needs_the_same_alphabet_and_no_more() -> None:
    """A treatment may give its targets the source's; two languages may have the same."""
    kept = {"frozen-1": {"reset": []}}
    validate(changed(treatments={"frozen-1": {"reset": ["layer_5"], "alphabet": "en"}}, languages=SAME))
    validate(changed(treatments=kept, languages=SAME))


def test_a_file_with_braces_is_refused_since_snakemake_takes_them_for_wildcards(tmp_path: Path) -> None:
    text = tmp_path / "{more}.txt"
    text.touch()
    with pytest.raises(UserError, match="wildcard; rename it"):
        validate(changed(decoders={"lm": {"language_model": {"extra_text": str(text)}}}))


def test_many_mistakes_are_cut_off() -> None:
    with pytest.raises(UserError) as caught:
        validate(changed(**{f"key-{number}": 1 for number in range(500)}))
    assert str(caught.value).splitlines()[-1] == "config: and 480 more mistakes"


def test_a_bare_on_or_off_means_what_it_says() -> None:
    """YAML 1.1 reads them as truth values."""
    for word in (True, False, "on", "off"):
        how = changed(treatments={"frozen-1": {"frozen": {"dropout": word}}})
        assert validate(how).treatments["frozen-1"].frozen.dropout == {True: "on", False: "off"}.get(word, word)
