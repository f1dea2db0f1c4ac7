"""espeak-ng in process: text to samples, with nothing of one clip left over in the next.

The library keeps hidden state between utterances (the position in its pitch flutter, the phase of its oscillator) that
no call resets: the same text said twice gives different samples. And starting it twice in a process corrupts its
tables now and then. So it is never started in the calling process: every clip is said by a fork, which ends with it.

The library and its voices come from the wheel `espeakng-loader`. espeak-ng is GPL-3.0; it is used as a tool.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

from thaw.errors import UserError

SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: espeak_Synth returns when all samples were delivered
UTF8 = 1  # espeakCHARS_UTF8
RATE, PITCH, RANGE = 1, 3, 4  # espeak_PARAMETER: words per minute, base pitch 0-100, pitch range 0-100
IPA = 0x02 | ord("_") << 8  # espeak_TextToPhonemes: IPA, with this between two phonemes
ABSOLUTE = 0  # a parameter is set, not added to
SAMPLE_RATE = 22050  # Hz; of all of espeak-ng's own voices
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Manner:
    """How something is said: a variant of espeak-ng's voices, and three settings."""

    variant: str  # file name of a voice variant, e.g. "f2"
    rate: int  # words a minute, 80-450
    pitch: int  # 0-100
    range: int  # of the pitch, 0-100


def voices() -> dict[str, str]:
    """Language codes that may be spoken, each with the place of its voice in espeak-ng's data ("fr-fr": "roa/fr").

    The place serves as the voice's name; by its bare name, espeak-ng would read all voices to find it.
    """
    folder = Path(espeakng_loader.get_data_path()) / "lang"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = {path.name.lower(): path.relative_to(folder).as_posix() for path in files}
    for path in files:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "language":
                found.setdefault(words[1].lower(), path.relative_to(folder).as_posix())
    return found


def find_voice(code: str) -> str:
    """espeak-ng's voice of a language code; UserError lists the codes there are."""
    known = voices()
    try:
        return known[code.lower().replace("_", "-")]
    except KeyError:
        raise UserError(
            f"voice {code!r}: espeak-ng does not speak it; choose one of {', '.join(sorted(known))}"
        ) from None


def _in_fork(work: Callable[[int], int]) -> tuple[int, bytes]:
    """`work`, given a pipe to write to, in a fork that ends at once after it: its exit status, and what it wrote."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os._exit(work(writing))  # runs none of the parent's clean-up
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), data


class Espeak:
    """espeak-ng with one voice. `say` may be called any number of times, by any number of objects.

    `voice` is espeak-ng's own name of a language, as `find_voice` gives it.
    """

    def __init__(self, voice: str) -> None:
        self.voice = voice
        self.data = Path(espeakng_loader.get_data_path())
        self.engine = ctypes.CDLL(espeakng_loader.get_library_path())  # loaded once for all forks, started in each

    def say(self, text: str, manner: Manner) -> NDArray[np.int16]:
        """`text` spoken: (samples,) int16, mono, at SAMPLE_RATE. UserError where nothing comes out."""
        if not (self.data / "voices" / "!v" / manner.variant).is_file():  # espeak-ng would go on without it
            raise UserError(f"espeak-ng has no voice variant {manner.variant!r}")
        status, data = _in_fork(lambda pipe: self._speak(text, manner, pipe))
        if status != 0 or not data.strip(b"\0"):
            raise UserError(f"espeak-ng (voice {self.voice}+{manner.variant}, status {status}) could not say {text!r}")
        return np.frombuffer(data, dtype=np.int16)

    def phonemes(self, texts: Sequence[str]) -> list[str]:
        """How each text is said: its phonemes in IPA, `_` between two, as espeak-ng writes them, with its stress marks.

        A text must hold no line break. UserError where espeak-ng cannot be asked.
        """
        status, data = _in_fork(lambda pipe: self._transcribe(texts, pipe))
        lines = data.decode(errors="replace").split("\n")[:-1]
        if status != 0 or len(lines) != len(texts):
            raise UserError(f"espeak-ng (voice {self.voice}, status {status}) could not tell how its words are said")
        return lines

    def _transcribe(self, texts: Sequence[str], pipe: int) -> int:
        """0, or the step that failed, as in `_speak`."""
        library = self.engine
        os.chdir(self.data.parent)
        if library.espeak_Initialize(SYNCHRONOUS, 0, self.data.name.encode(), 0) != SAMPLE_RATE:
            return 2
        if library.espeak_SetVoiceByName(self.voice.encode()) != 0:
            return 3
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        with os.fdopen(pipe, "wb") as out:
            for text in texts:
                left = ctypes.c_char_p(text.encode())
                clauses = []
                while left.value:  # one call says one clause
                    clauses.append(library.espeak_TextToPhonemes(ctypes.byref(left), UTF8, IPA) or b"")
                out.write(b" ".join(clauses).replace(b"\n", b" ") + b"\n")
        return 0

    def _speak(self, text: str, manner: Manner, pipe: int) -> int:
        """0, or the step that failed: 2 the start, 3 the voice, 4 the speech."""
        library = self.engine

        def deliver(samples: int | None, count: int, events: Any) -> int:
            if samples and count > 0:
                data = memoryview(ctypes.string_at(samples, 2 * count))
                try:
                    while data:
                        data = data[os.write(pipe, data) :]
                except OSError:  # the parent is gone
                    os._exit(1)
            return 0

        os.chdir(self.data.parent)  # espeak-ng has room for a path of 160 bytes; long ones end it with "No such file"
        if library.espeak_Initialize(SYNCHRONOUS, 0, self.data.name.encode(), 0) != SAMPLE_RATE:
            return 2
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # for the noise of breathy variants; else it is the time of day
        callback = CALLBACK(deliver)
        library.espeak_SetSynthCallback(callback)
        if library.espeak_SetVoiceByName(f"{self.voice}+{manner.variant}".encode()) != 0:
            return 3
        for parameter, value in ((RATE, manner.rate), (PITCH, manner.pitch), (RANGE, manner.range)):
            library.espeak_SetParameter(parameter, value, ABSOLUTE)
        data = text.encode()
        size = ctypes.c_size_t(len(data) + 1)
        if library.espeak_Synth(data, size, 0, 0, 0, UTF8, None, None) != 0 or library.espeak_Synchronize() != 0:
            return 4
        return 0
