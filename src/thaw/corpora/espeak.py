"""espeak-ng in process: text to samples, with nothing of one clip left over in the next.

The library keeps hidden state between utterances (the position in its pitch flutter, the phase of its oscillator) that
no call resets: the same text said twice gives different samples. And starting it twice in a process corrupts its
tables now and then. So it is never started in the calling process: every clip is said by a fork, which ends with it.

The library and its voices come from the wheel `espeakng-loader`. espeak-ng is GPL-3.0; it is used as a tool.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
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
PHONEME_EVENTS = 0x1 | 0x2  # espeakINITIALIZE_PHONEME_EVENTS, and their names in IPA
PHONEME = 7  # espeakEVENT_PHONEME
LENGTH = struct.Struct("<Q")


class Event(ctypes.Structure):
    """espeak_EVENT; a list of them ends with type 0."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("type", "identifier", "text_position", "length", "milliseconds", "sample")),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


@dataclass(frozen=True)
class Manner:
    """How something is said: a variant of espeak-ng's voices, and three settings."""

    variant: str  # file name of a voice variant, e.g. "f2"
    rate: int  # words a minute, 80-450
    pitch: int  # 0-100
    range: int  # of the pitch, 0-100


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

    `voice` is espeak-ng's own name of a language, as `thaw.corpora.voices.find_voice` gives it.
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

    def say_timed(self, text: str, manner: Manner) -> tuple[NDArray[np.int16], list[tuple[str, float]]]:
        """As `say`, and beside the samples each phoneme in IPA with the second that it begins at.

        Pauses are phonemes without a name. It is the truth that an alignment of the same speech can be held against.
        """
        status, data = _in_fork(lambda pipe: self._speak_timed(text, manner, pipe))
        if status != 0 or len(data) < LENGTH.size:
            raise UserError(f"espeak-ng (voice {self.voice}+{manner.variant}, status {status}) could not say {text!r}")
        (size,) = LENGTH.unpack_from(data)
        sound, events = data[LENGTH.size : LENGTH.size + size], json.loads(data[LENGTH.size + size :])
        return np.frombuffer(sound, dtype=np.int16), [(name, sample / SAMPLE_RATE) for name, sample in events]

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

        def deliver(samples: int | None, count: int, events: Any) -> int:
            if samples and count > 0:
                data = memoryview(ctypes.string_at(samples, 2 * count))
                try:
                    while data:
                        data = data[os.write(pipe, data) :]
                except OSError:  # the parent is gone
                    os._exit(1)
            return 0

        return self._synthesise(text, manner, deliver, 0)

    def _speak_timed(self, text: str, manner: Manner, pipe: int) -> int:
        """The same; writes the length of the samples in bytes, the samples, and the phonemes as JSON."""
        sound: list[bytes] = []
        found: list[tuple[str, int]] = []

        def deliver(samples: int | None, count: int, events: int | None) -> int:
            if samples and count > 0:
                sound.append(ctypes.string_at(samples, 2 * count))
            event = Event.from_address(events) if events else None
            while events and event and event.type:
                if event.type == PHONEME:
                    found.append((bytes(event.name).split(b"\0")[0].decode(errors="replace"), event.sample))
                events += ctypes.sizeof(Event)
                event = Event.from_address(events)
            return 0

        status = self._synthesise(text, manner, deliver, PHONEME_EVENTS)
        data = b"".join(sound)
        with os.fdopen(pipe, "wb") as out:
            out.write(LENGTH.pack(len(data)) + data + json.dumps(found).encode())
        return status

    def _synthesise(self, text: str, manner: Manner, deliver: Callable[..., int], options: int) -> int:
        library = self.engine
        os.chdir(self.data.parent)  # espeak-ng has room for a path of 160 bytes; long ones end it with "No such file"
        if library.espeak_Initialize(SYNCHRONOUS, 0, self.data.name.encode(), options) != SAMPLE_RATE:
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
