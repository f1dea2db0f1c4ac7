"""Telephone prompts: one studio speaker per language, as Debian packages them (asterisk-core-sounds-*).

The packages hold WAV files of 8 kHz and a list of what they say, written for translators: with remarks, names of tones,
digits, and gaps. What is said for sure is listed; all else is rejected with a reason. No root is needed: apt-get
downloads (and checks signatures), dpkg-deb unpacks.

Second voices (asterisk-prompt-*) come without a list. Their files have the same names, but their sentences are other
translations; only names of numbers, days and months are read, which a language has one word for: docs/corpora.md.
"""

from __future__ import annotations

import gzip
import re
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import soundfile

from thaw.config.sources import PromptsSource
from thaw.corpora.listing import Listed, Listing, drawn_splits, sentence_key
from thaw.corpora.ownership import claim
from thaw.errors import UserError
from thaw.files import Reject, replacing, write_text

FOLDERS = {
    "en": "en_US_f_Allison",
    "es": "es_MX_f_Allison",
    "fr": "fr_CA_f_June",
    "it": "it_IT_m_Carlo",
    "ru": "ru_RU_f_IvrvoiceRU",
}
SOUNDS = "usr/share/asterisk/sounds"
UNPACKED = "unpacked"  # in the corpus folder: a folder
COMPLETE = "complete"  # a file, there once all is unpacked
DECODED = "decoded"  # a folder: what is WAV here and was GSM there
SECONDS = 900  # that one program may take

# Prompts without speech, whatever their texts say in some language.
TONES = re.compile(r"silence/.*|beep|beeperr|(a|de)scending-2tone|confbridge-(join|leave)|tt-monkeys")
LETTER = re.compile(r"letters/.")  # its text is the letter, not how it is said
REMARK = re.compile(r"\([^()]*\)|<[^<>]*>|\[[^\w\[\]]*\]")  # (note), <beep>, and [@]: a sign, not a word
UNCERTAIN = re.compile(r"[\[\]()<>/]")  # what may or may not be said: [optional] words, one / the other
LOST = re.compile(r"\?\s*([^\W\d_])")  # a letter that an encoding turned into "?", where no new sentence begins
DIGIT = re.compile(r"(?<![\w.,])\d(?!\w|[.,]\d)")  # one that stands alone, so it is said as itself
KEY = re.compile(r"(?<!\S)[*#](?!\S)")
HURRY = 1.6  # times the voice's usual characters a second: the list then has more than is said
LONG_ENOUGH = 1.5  # seconds of a recording whose rate tells something
BYTES_A_SECOND = 2 * 8000
KEYS = {"*": "star", "#": "pound"}
# Prompts that one word is right for: 0 to 99, days from Sunday, months from January (Asterisk composes them by number).
ONE_WORD = re.compile(r"digits/(\d\d?|day-[0-6]|mon-(\d|1[01]))")


@dataclass(frozen=True)
class SecondVoice:
    """Where a second voice is."""

    package: str
    folder: str  # in SOUNDS
    suffix: str  # of its recordings; .gsm is GSM 6.10 without a header
    speaker: str


SECOND = {
    "es": SecondVoice("asterisk-prompt-es-co", "es", ".gsm", "July"),
    "fr": SecondVoice("asterisk-prompt-fr-armelle", "fr", ".gsm", "Armelle"),
    "it": SecondVoice("asterisk-prompt-it-menardi-wav", "it_IT_f_Menardi", ".wav", "Paola"),
}


@dataclass(frozen=True)
class Prompt:
    """One line of the list."""

    name: str  # of the file, e.g. "digits/0"
    text: str


def read(source: PromptsSource, root: Path) -> Listing:
    """List the prompts of one voice.

    A split is drawn for each sentence, so that all its recordings are in one; with a second voice, that is all of test.
    Rejected: "no speech", "no transcript", "letter by name", "uncertain transcript", "duplicate id", "missing clip",
    and "said in test", what the second voice says too. Raises UserError where the packages cannot be had.
    """
    tree = _tree(source, root)
    sounds = tree / SOUNDS / FOLDERS[source.voice]
    if not sounds.is_dir():
        raise UserError(f"{sounds}: no such folder; give where {', '.join(_needed(source))} are unpacked")
    files = {file.lower(): file for file in sorted(_recordings(sounds))}  # some lists write a name in another case
    rows = list(_rows(_prompts(_list_of(tree, source.voice)), files, FOLDERS[source.voice].rpartition("_")[2]))
    keys = {row.id: sentence_key(row.text) for row in rows if isinstance(row, Listed)}
    splits = drawn_splits("sentences", keys.values(), source.held_out)
    listing = Listing(sounds)
    listing.add(replace(row, split=splits[keys[row.id]]) if isinstance(row, Listed) else row for row in rows)
    _reject_hurried(listing)
    return _by_speaker(listing, source, tree, root) if source.second_voice else listing


def _reject_hurried(listing: Listing) -> None:
    """Take out what would be said too fast: lists have texts that were changed, or run into the next, later."""
    rates = {u.id: len(u.text) * BYTES_A_SECOND / max(u.bytes, 1) for u in listing.utterances
             if u.bytes >= LONG_ENOUGH * BYTES_A_SECOND}  # fmt: skip
    usual = statistics.median(rates.values()) if rates else 0.0
    hurried = [u for u in listing.utterances if rates.get(u.id, 0) > HURRY * usual]
    for u in hurried:
        detail = f"{rates[u.id]:.0f} characters a second; usual are {usual:.0f}"
        listing.rejects.append(Reject(u.id, u.split, "fetch", "uncertain transcript", detail))
    listing.utterances = [u for u in listing.utterances if u not in hurried]


def packages(voice: str) -> tuple[str, str]:
    """The packages of a voice: recordings, list."""
    return f"asterisk-core-sounds-{voice}-wav", f"asterisk-core-sounds-{voice}"


def _needed(source: PromptsSource) -> tuple[str, ...]:
    """All packages of a source."""
    return packages(source.voice) + ((SECOND[source.voice].package,) if source.second_voice else ())


# --- getting them ---------------------------------------------------------------------------------


def _tree(source: PromptsSource, root: Path) -> Path:
    """The folder that holds usr/share."""
    path = Path(source.path).expanduser()
    if source.path and not any(path.glob("*.deb")):
        return path
    tree = root / UNPACKED
    claim(root, _recipe(source))
    if not (root / COMPLETE).exists():
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir()
        for name in _needed(source):
            archive = _archive(path, name) if source.path else _download(name, root)
            _run(["dpkg-deb", "-x", str(archive), str(tree.resolve())], root)
        write_text(root / COMPLETE, "", sealed=False)
    return tree


def _recipe(source: PromptsSource) -> dict[str, str | bool]:
    """What the corpus folder is claimed for."""
    one: dict[str, str | bool] = {"kind": "prompts", "voice": source.voice, "path": source.path}
    return one | {"second_voice": True} if source.second_voice else one


def _download(package: str, root: Path) -> Path:
    """The package from the archive that apt knows; it checks signature, size and hash."""
    _run(["apt-get", "download", package], root)
    return _archive(root, package)


def _archive(folder: Path, package: str) -> Path:
    found = sorted(folder.glob(f"{package}_*.deb"))
    if len(found) != 1:
        raise UserError(f"{folder} holds {len(found)} files {package}_*.deb, and one is needed")
    return found[0].resolve()


def _run(command: list[str], folder: Path) -> None:
    by_hand = "or unpack the packages elsewhere and give that folder as `path`"
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    except FileNotFoundError:
        raise UserError(f"{command[0]} is not here; use a machine with Debian or Ubuntu, {by_hand}") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{' '.join(command[:2])} took longer than {SECONDS} s; try again, {by_hand}") from None
    if done.returncode:
        said = " ".join(done.stderr.split())[-300:]
        hint = "try `apt-get update` first, " if command[0] == "apt-get" else ""
        raise UserError(f"{' '.join(command[:3])} failed: {said}; {hint}{by_hand}")


# --- reading them ---------------------------------------------------------------------------------


def _recordings(sounds: Path) -> Iterator[str]:
    for path in sounds.rglob("*.wav"):
        yield path.relative_to(sounds).with_suffix("").as_posix()


def _list_of(tree: Path, voice: str) -> str:
    """The list of what is said, as text."""
    package = packages(voice)[1]
    path = tree / "usr/share/doc" / package / f"core-sounds-{voice}.txt"
    try:
        packed = path.with_name(f"{path.name}.gz")
        data = gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{packed}: no such file; {package} has it (some systems install no documentation)") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); unpack {package} again") from None


def _prompts(text: str) -> Iterator[Prompt]:
    for line in text.split("\n"):
        name, colon, said = line.partition(":")
        if colon and not line.startswith(";"):
            said = " ".join(said.split()).removeprefix(f"{name}:")  # one list repeats a name
            yield Prompt(name.strip(), said.strip())


def _rows(prompts: Iterator[Prompt], files: dict[str, str], speaker: str) -> Iterator[Listed | Reject]:
    """The prompts of the list in its order, then the recordings that it lacks. Every split is still train."""
    listed = list(prompts)
    words = {prompt.name.removeprefix("digits/"): prompt.text.strip(".").lower() for prompt in reversed(listed)
             if prompt.name.startswith("digits/")}  # fmt: skip  # the first of a name wins
    for prompt in listed:
        name = files.get(prompt.name.lower(), prompt.name)
        text = spoken(prompt.text, words)
        if reason := _reason(name, prompt.text, text):
            yield Reject(name, "train", "fetch", reason, prompt.text)
        else:
            yield Listed(name, "train", text, speaker, f"{name}.wav")
    for name in sorted(set(files.values()) - {files.get(prompt.name.lower()) for prompt in listed}):
        yield Reject(name, "train", "fetch", "no speech" if TONES.fullmatch(name) else "no transcript", f"{name}.wav")


def spoken(text: str, words: dict[str, str]) -> str:
    """What is said of a prompt's text: no remarks, and lone digits and keys in the words that the list has for them."""
    said = REMARK.sub(" ", text)
    said = DIGIT.sub(lambda match: words.get(match[0], match[0]), said)
    said = KEY.sub(lambda match: words.get(KEYS[match[0]], match[0]), said)
    return " ".join(said.split())


def _reason(name: str, text: str, said: str) -> str:
    """Why a prompt is left out, "" where it is not."""
    if TONES.fullmatch(name):
        return "no speech"
    if not text:
        return "no transcript"
    if not re.search(r"\w", re.sub(r"\[[^\[\]]*\]", "", said)):
        return "no speech"
    if LETTER.fullmatch(name) and len(said) == 1:
        return "letter by name"
    lost = any(match[1].islower() for match in LOST.finditer(said))
    return "uncertain transcript" if lost or UNCERTAIN.search(said) else ""


# --- a second voice -------------------------------------------------------------------------------


def _by_speaker(first: Listing, source: PromptsSource, tree: Path, root: Path) -> Listing:
    """The second voice as test; train and dev are the sentences of the first voice that the second does not say."""
    second = _second_voice(source, tree, root, first.utterances)
    said = {sentence_key(utterance.text) for utterance in second}
    keys = {u.id: sentence_key(u.text) for u in first.utterances}
    splits = drawn_splits("sentences", set(keys.values()) - said, source.held_out, ("dev",))
    whole = Listing(Path(), rejects=[replace(reject, split="train") for reject in first.rejects])
    for u in first.utterances:
        if keys[u.id] in said:
            whole.rejects.append(Reject(u.id, "train", "fetch", "said in test", u.text))
        else:
            whole.utterances.append(replace(u, split=splits[keys[u.id]], file=str(first.clips / u.file)))
    whole.add(second)
    return whole


def _second_voice(source: PromptsSource, tree: Path, root: Path, first: list[Listed]) -> list[Listed]:
    """What the second voice says for sure, in the words of the first voice's list.

    A file is the path of the recording, or of the WAV file that was made of it.
    """
    voice = SECOND[source.voice]
    folder = tree / SOUNDS / voice.folder
    # Installed first voices may be linked to under the same short name, so what is there need not be of this package.
    if folder.is_symlink() or not folder.is_dir() or not (tree / "usr/share/doc" / voice.package).is_dir():
        raise UserError(f"{folder}: not the sounds of {voice.package}; unpack it there, or leave second_voice out")
    recordings = {u: folder / f"{u.id}{voice.suffix}" for u in first if ONE_WORD.fullmatch(u.id)}
    said = [
        Listed(f"{voice.speaker.lower()}/{u.id}", "test", u.text, voice.speaker, str(recording))
        for u, recording in recordings.items()
        if recording.is_file()
    ]
    if not said:
        raise UserError(f"{folder} has none of the recordings that are tested on; unpack {voice.package} again")
    if voice.suffix != ".gsm":
        return said
    claim(root, _recipe(source))
    return [replace(u, file=str(_decoded(Path(u.file), root / DECODED / f"{u.id}.wav"))) for u in said]


def _decoded(recording: Path, wav: Path) -> Path:
    """GSM 6.10 frames without a header as a WAV file of 8 kHz; the audio room cannot know how to read them."""
    pcm, rate = soundfile.read(recording, dtype="int16", samplerate=8000, channels=1, format="RAW", subtype="GSM610")
    with replacing(wav, sealed=False) as temporary:
        soundfile.write(temporary, pcm, rate, format="WAV", subtype="PCM_16")
    return wav
