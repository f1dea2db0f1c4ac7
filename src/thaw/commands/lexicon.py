"""thaw lexicon: how the words of manifests are said."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "make the lexicon of manifests: by espeak-ng, or from a file of yours, which is checked"
EXAMPLE = (
    'thaw lexicon --lexicon \'{"kind":"espeak","voice":"es"}\' --manifest train.jsonl dev.jsonl test.jsonl \\\n'
    "    --out lexicon.txt --record lexicon.json"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--lexicon", required=True, help="a LexiconSpec as JSON")
    parser.add_argument("--manifest", type=Path, nargs="+", required=True, help="whose words")
    parser.add_argument("--text", default="", help="a TextSpec as JSON: rules for the extra text")
    parser.add_argument("--extra-text", nargs="?", default="", help="a file of more sentences, one a line")
    parser.add_argument("--content", nargs="*", default=[], help="SHA-256 of your files, as the plan read them")
    parser.add_argument("--out", type=Path, required=True, help="written: word, tab, phones")
    parser.add_argument("--record", type=Path, required=True, help="written: counts, phones, words without any (JSON)")


def run(args: argparse.Namespace) -> None:
    """Make the lexicon, write it and its record. UserError for a broken line of a file, or a voice there is not."""
    from pydantic import TypeAdapter

    from thaw.alignment.lexicon import by_espeak, read_lexicon, write_lexicon
    from thaw.config.alignment import FileLexicon, LexiconSpec
    from thaw.errors import UserError
    from thaw.files import write_json
    from thaw.lm.build import sentences_of
    from thaw.planning.contents import of_file

    spec = TypeAdapter[LexiconSpec](LexiconSpec).validate_json(args.lexicon)
    words = {word for path in args.manifest for sentence in sentences_of(path) for word in sentence.split()}
    words.update(_extra_words(args.extra_text or "", args.text))
    if isinstance(spec, FileLexicon):
        lexicon = read_lexicon(Path(spec.path), spec.phones)
    else:
        lexicon = by_espeak(words, spec.voice)
    own = [path for path in (spec.path if isinstance(spec, FileLexicon) else "", args.extra_text) if path]
    if args.content and [of_file(path) for path in own] != args.content:
        raise UserError(f"{' or '.join(own)} was edited while it was read: run the same command again")
    missing = sorted(word for word in words if word not in lexicon.words)
    write_lexicon(args.out, lexicon)
    write_json(
        args.record,
        {
            "lexicon": spec.model_dump(mode="json"),
            "words": len(lexicon.words),
            "pronunciations": sum(map(len, lexicon.words.values())),
            "phones": list(lexicon.phones),
            "words_in_manifests": len(words),
            "without_pronunciation": missing,
        },
    )
    print(f"lexicon: {len(lexicon.words)} words, {len(lexicon.phones)} phones")
    if missing:
        print(f"lexicon: {len(missing)} words of the manifests have no pronunciation, e.g. {', '.join(missing[:5])}")


def _extra_words(path: str, rules: str) -> set[str]:
    from thaw.config.schema import TextSpec
    from thaw.lm.build import read_extra

    if not path:
        return set()
    sentences, _ = read_extra(Path(path), TextSpec.model_validate_json(rules))
    return {word for sentence in sentences for word in sentence.split()}
