"""Licence and citation of the corpora that thaw knows, for the report; a config may say otherwise."""

from __future__ import annotations

from thaw.config.sources import Source, UnionSource

CREDITS = {  # licence and citation by kind; the user's own corpora have none here
    "synthetic": ("none: synthesised here", "espeak-ng (voice), Unicode CLDR (names)"),
    "commonvoice": ("CC0-1.0", "Ardila et al. 2020, Common Voice: A Massively-Multilingual Speech Corpus"),
    "librispeech": (
        "CC BY 4.0",
        "Panayotov et al. 2015, LibriSpeech: an ASR corpus based on public domain audio books",
    ),
    "mls": ("CC BY 4.0", "Pratap et al. 2020, MLS: A Large-Scale Multilingual Dataset for Speech Research"),
    "wikitext": ("CC BY-SA 3.0; GFDL", "Merity et al. 2016, Pointer Sentinel Mixture Models"),
    "swiss-parliament": ("MIT", "Plüss et al. 2021, Swiss Parliaments Corpus"),
}
DOCSTRINGS = dict.fromkeys(("scipy", "numpy", "pandas", "networkx", "sympy"), "BSD-3-Clause")  # by package
PROMPTS = {  # licence and reader, as the packages' copyright files have them
    "en": ("CC BY-SA 3.0", "Allison Smith"),
    "es": ("CC BY-SA 3.0", "Allison Smith"),
    "fr": ("CC BY-SA 3.0", "June Wallack"),
    "it": ("CC BY 3.0", "Carlo Flora"),
    "ru": ("CC BY 3.0", "ivrvoice.ru, provided by Maxim Topal"),
}
SECOND_VOICES = {  # the same of the second voices; the Italian licence wants the makers and their address named
    "es": ("GPL-2.0-only", "asterisk-prompt-es-co, recorded by July E. Jiménez, Avatar Ltda."),
    "fr": (
        "BSD-style, no endorsement",
        "asterisk-prompt-fr-armelle, recorded by Armelle Desjardins, © Michel Gutierrez",
    ),
    "it": (
        "CC BY-SA 3.0 IT",
        "asterisk-prompt-it-menardi, made by Marco Menardi and Paola Dal Zot, http://www.voip.ammdomus.it",
    ),
}


def credit(source: Source) -> tuple[str, str]:
    """Licence and citation of a source; empty where only its owner knows them."""
    if isinstance(source, UnionSource):
        found = [credit(part) for part in source.parts.values()]
        licences, citations = (list(dict.fromkeys(filter(None, column))) for column in zip(*found, strict=True))
        return "; ".join(licences), "; ".join(citations)
    if source.kind == "text" and not source.path and not source.splits:
        licences = list(dict.fromkeys(DOCSTRINGS.get(package, "") for package in source.packages))
        return "; ".join(filter(None, licences)), f"docstrings of {', '.join(source.packages)}"
    if source.kind == "prompts":
        licence, reader = PROMPTS[source.voice]
        citation = f"asterisk-core-sounds-{source.voice}, recorded by {reader}"
        if not source.second_voice:
            return licence, citation
        more = SECOND_VOICES[source.voice]
        return f"{licence}; {more[0]}", f"{citation}; {more[1]}"
    return CREDITS.get(source.kind, ("", ""))
