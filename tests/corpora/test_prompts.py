"""Telephone prompts: what is said of a list written for translators, and packages without root."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from tests.corpora.wavs import recording
from thaw.config.sources import HeldOut, PromptsSource
from thaw.corpora.credits import credit
from thaw.corpora.listing import Listing, sentence_key
from thaw.corpora.prompts import SECOND, packages, read, spoken
from thaw.errors import UserError

LIST = """; Core Sounds

added: Added.
also-added: ...added
beep: un suono beep
ascending-2tone: [ascending tones]
sound: [sound of something]
silence/1: (1 second of silence)
digits/0: cero
digits/0: diez
digits/2: two
digits/star: Star.
letters/b: b
letters/dash: dash [-]
letters/at: at [@]
vm-press: vm-press: Press 2, or * for H.323
vm-intro: Leave a message. (simple tone plays)
vm-optional: The [old] message.
vm-slash: on / off
vm-lost: La conferenza ? piena.
vm-question: New folder? Press 2.
vm-gone: Not recorded.
vm-Inbox: new
vm-empty:
"""
# Recordings of list entries, then one that the list lacks.
FILES = ["added", "also-added", "beep", "ascending-2tone", "sound", "silence/1", "digits/0", "digits/2", "digits/star"]
FILES += ["letters/b", "letters/dash", "letters/at", "vm-press", "vm-intro", "vm-optional", "vm-slash", "vm-lost"]
FILES += ["vm-question", "vm-INBOX", "vm-empty", "extra"]


def tree(folder: Path, text: str = LIST, seconds: float = 0.2) -> Path:
    """Both packages, unpacked in `folder`."""
    for name in FILES:
        recording(folder / "usr/share/asterisk/sounds/it_IT_m_Carlo" / f"{name}.wav", seconds)
    doc = folder / "usr/share/doc/asterisk-core-sounds-it/core-sounds-it.txt.gz"
    doc.parent.mkdir(parents=True)
    doc.write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.encode()))
    return folder


def listed(folder: Path, dev: float = 0.1) -> Listing:
    return read(PromptsSource(kind="prompts", voice="it", path=str(folder), held_out=HeldOut(dev=dev)), Path("unused"))


def test_what_is_said(tmp_path: Path) -> None:
    listing = listed(tree(tmp_path))
    assert {u.id: u.text for u in listing.utterances} == {
        "added": "Added.",
        "also-added": "...added",
        "digits/0": "cero",
        "digits/2": "two",
        "digits/star": "Star.",
        "letters/dash": "dash",
        "letters/at": "at",
        "vm-press": "Press two, or star for H.323",
        "vm-intro": "Leave a message.",
        "vm-question": "New folder? Press two.",
        "vm-INBOX": "new",
    }
    assert {u.speaker for u in listing.utterances} == {"Carlo"}
    assert all((listing.clips / u.file).is_file() for u in listing.utterances)


def test_rejects(tmp_path: Path) -> None:
    assert {(r.id, r.reason) for r in listed(tree(tmp_path)).rejects} == {
        *((name, "no speech") for name in ("beep", "ascending-2tone", "sound", "silence/1")),
        *((name, "uncertain transcript") for name in ("vm-optional", "vm-slash", "vm-lost")),
        *((name, "no transcript") for name in ("vm-empty", "extra")),
        ("digits/0", "duplicate id"),
        ("letters/b", "letter by name"),
        ("vm-gone", "missing clip"),
    }


def test_more_text_than_can_be_said(tmp_path: Path) -> None:
    """One list has entries that run into the next."""
    names = {"added": "one", "sound": "two", "letters/at": "six", "digits/0": "ten"}
    text = "".join(f"{name}: {word} {'ten letters ' * 3}\n" for name, word in names.items())
    text += f"extra: {'ten letters ' * 9}\n"
    listing = listed(tree(tmp_path, text, seconds=2.0))
    assert [u.id for u in listing.utterances] == ["added", "digits/0", "letters/at", "sound"]
    (reject,) = (r for r in listing.rejects if r.id == "extra")
    assert (reject.reason, reject.detail) == ("uncertain transcript", "53 characters a second; usual are 19")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("press 7, 8.", "press seven, 8."),  # no word for 8 in this list
        ("dial 77 or 7.5 or 3D", "dial 77 or 7.5 or 3D"),
        ("one <beep> two [!]", "one two"),
    ],
)
def test_only_lone_digits_are_spelled(text: str, said: str) -> None:
    assert spoken(text, {"7": "seven", "3": "three"}) == said


def test_a_sentence_is_in_one_split(tmp_path: Path) -> None:
    listing = listed(tree(tmp_path))
    places: dict[str, set[str]] = {}
    for utterance in listing.utterances:
        places.setdefault(sentence_key(utterance.text), set()).add(utterance.split)
    assert len(places) == 10
    assert all(len(splits) == 1 for splits in places.values())
    assert {split for splits in places.values() for split in splits} == {"train", "dev", "test"}
    again = {u.id: u.split for u in listed(tmp_path).utterances}
    assert again == {u.id: u.split for u in listing.utterances}
    assert again != {u.id: u.split for u in listed(tmp_path, dev=0.4).utterances}


def test_what_a_user_can_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it_IT_m_Carlo: no such folder; give where asterisk-core-sounds-it-wav"):
        listed(tmp_path)
    folder = tree(tmp_path)
    shutil.rmtree(folder / "usr/share/doc")
    with pytest.raises(UserError, match=r"core-sounds-it\.txt\.gz: no such file; asterisk-core-sounds-it has it"):
        listed(folder)


# --- a second voice ---------------------------------------------------------------------------------------------------

SECOND_FILES = ("digits/0", "digits/2", "digits/star", "added", "digits/55")


def two_voices(folder: Path, voice: str = "it") -> PromptsSource:
    """The trees of both voices in one folder; other languages than Italian get the same list and prompts."""
    tree(folder)
    first = {"it": "it_IT_m_Carlo", "fr": "fr_CA_f_June"}[voice]
    (folder / "usr/share/asterisk/sounds/it_IT_m_Carlo").rename(folder / "usr/share/asterisk/sounds" / first)
    doc = folder / "usr/share/doc"
    (doc / "asterisk-core-sounds-it").rename(doc / f"asterisk-core-sounds-{voice}")
    (doc / f"asterisk-core-sounds-{voice}/core-sounds-it.txt.gz").rename(
        doc / f"asterisk-core-sounds-{voice}/core-sounds-{voice}.txt.gz"
    )
    (doc / SECOND[voice].package).mkdir()
    for name in SECOND_FILES:
        path = folder / "usr/share/asterisk/sounds" / SECOND[voice].folder / f"{name}{SECOND[voice].suffix}"
        if path.suffix == ".wav":
            recording(path, 0.3)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(1600) / 8000)
            soundfile.write(path, tone, 8000, format="RAW", subtype="GSM610")
    return PromptsSource(kind="prompts", voice=voice, path=str(folder), second_voice=True)


def test_the_second_voice_is_test(tmp_path: Path) -> None:
    listing = read(two_voices(tmp_path / "tree"), tmp_path / "root")
    tested = {u.id: (u.text, u.speaker) for u in listing.utterances if u.split == "test"}
    assert tested == {"paola/digits/0": ("cero", "Paola"), "paola/digits/2": ("two", "Paola")}
    assert {(u.speaker, u.split) for u in listing.utterances if u.id not in tested} == {
        ("Carlo", "train"),
        ("Carlo", "dev"),
    }
    assert all((listing.clips / u.file).is_file() for u in listing.utterances)
    assert not (tmp_path / "root").exists()  # WAV files are read where they are


def test_no_sentence_of_the_second_voice_is_trained_on(tmp_path: Path) -> None:
    """Nor is the row that says "digits/0" again, with other words."""
    source = two_voices(tmp_path / "tree")
    listing = read(source, tmp_path / "root")
    trained = {sentence_key(u.text) for u in listing.utterances if u.split != "test"}
    assert trained.isdisjoint({"cero", "diez", "two"})
    gone = {(r.id, r.split, r.reason) for r in listing.rejects if r.id.startswith("digits/")}
    assert gone == {
        ("digits/0", "train", "said in test"),
        ("digits/2", "train", "said in test"),
        ("digits/0", "train", "duplicate id"),
    }
    one = read(source.model_copy(update={"second_voice": False}), tmp_path / "root")
    assert len(one.utterances) == len(listing.utterances) == 11  # two of each in place of two


def test_gsm_is_decoded(tmp_path: Path) -> None:
    listing = read(two_voices(tmp_path / "tree", "fr"), tmp_path / "root")
    (zero,) = (u for u in listing.utterances if u.id == "armelle/digits/0")
    wav = listing.clips / zero.file
    assert wav.is_relative_to(tmp_path / "root")
    pcm, rate = soundfile.read(wav)
    assert (rate, len(pcm)) == (8000, 1600)
    assert np.sqrt(np.mean(pcm**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)
    assert zero.bytes == wav.stat().st_size


def test_a_second_voice_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="es, fr and it have one, ru has none"):
        PromptsSource(kind="prompts", voice="ru", second_voice=True)
    source = two_voices(tmp_path / "tree", "fr")
    sounds = tmp_path / "tree/usr/share/asterisk/sounds"
    shutil.rmtree(sounds / "fr")
    (sounds / "fr").symlink_to("fr_CA_f_June")  # as an installed first voice may be called
    with pytest.raises(UserError, match="not the sounds of asterisk-prompt-fr-armelle"):
        read(source, tmp_path / "root")


def test_credits_name_both_voices() -> None:
    licence, citation = credit(PromptsSource(kind="prompts", voice="it", second_voice=True))
    assert licence == "CC BY 3.0; CC BY-SA 3.0 IT"
    assert "Carlo Flora" in citation
    assert "Paola Dal Zot" in citation


# --- packages ---------------------------------------------------------------------------------------------------------


def build(top: Path, name: str, folder: Path) -> None:
    """The package `name` of what `top` holds, in `folder`."""
    (top / "DEBIAN").mkdir()
    control = f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody <a@example.org>\nDescription: x\n"
    (top / "DEBIAN" / "control").write_text(control)
    subprocess.run(["dpkg-deb", "-b", str(top), str(folder / f"{name}_1_all.deb")], check=True, capture_output=True)


@pytest.fixture
def debs(tmp_path: Path) -> Path:
    """A folder with both packages as .deb files."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not here: no Debian packages can be made or unpacked")
    whole, folder = tree(tmp_path / "tree"), tmp_path / "debs"
    folder.mkdir()
    for name, part in zip(packages("it"), ("asterisk", "doc"), strict=True):
        top = tmp_path / name
        shutil.copytree(whole / "usr/share" / part, top / "usr/share" / part)
        build(top, name, folder)
    return folder


def test_packages_that_the_user_has(debs: Path, tmp_path: Path) -> None:
    source = PromptsSource(kind="prompts", voice="it", path=str(debs))
    listing = read(source, tmp_path / "root")
    assert len(listing.utterances) == 11
    assert listing.clips.is_relative_to(tmp_path / "root")
    (debs / f"{packages('it')[0]}_1_all.deb").unlink()
    assert read(source, tmp_path / "root").utterances == listing.utterances  # unpacked once
    with pytest.raises(UserError, match=r"holds 0 files asterisk-core-sounds-it-wav_\*\.deb"):
        read(source, tmp_path / "other")


def fake_apt(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    script = folder / "apt-get"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_packages_by_apt(debs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_apt(tmp_path / "bin", f'echo "$@" >> {tmp_path}/calls; cp {debs}/$2_*.deb .', monkeypatch)
    monkeypatch.chdir(tmp_path)
    listing = read(PromptsSource(kind="prompts", voice="it"), Path("root"))
    assert len(listing.utterances) == 11
    assert (tmp_path / "calls").read_text().splitlines() == [f"download {name}" for name in packages("it")]


def test_the_second_package_by_apt(debs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = tmp_path / "second"
    recording(top / "usr/share/asterisk/sounds/it_IT_f_Menardi/digits/2.wav")
    (top / "usr/share/doc" / SECOND["it"].package).mkdir(parents=True)
    build(top, SECOND["it"].package, debs)
    fake_apt(tmp_path / "bin", f'echo "$@" >> {tmp_path}/calls; cp {debs}/$2_*.deb .', monkeypatch)
    listing = read(PromptsSource(kind="prompts", voice="it", second_voice=True), tmp_path / "root")
    assert [u.id for u in listing.utterances if u.split == "test"] == ["paola/digits/2"]
    assert (tmp_path / "calls").read_text().splitlines()[2:] == [f"download {SECOND['it'].package}"]


def test_apt_that_fails_or_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = PromptsSource(kind="prompts", voice="it")
    fake_apt(tmp_path / "bin", 'echo "E: Unable to locate package $2" >&2; exit 100', monkeypatch)
    with pytest.raises(
        UserError, match=r"apt-get download asterisk.* failed: E: Unable to locate.*apt-get update.*`path`"
    ):
        read(source, tmp_path / "root")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get is not here"):
        read(source, tmp_path / "root")
