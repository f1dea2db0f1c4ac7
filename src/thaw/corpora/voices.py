"""The languages that espeak-ng speaks. Needs no numpy, since plans ask for them."""

from __future__ import annotations

from pathlib import Path

import espeakng_loader

from thaw.errors import UserError


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
