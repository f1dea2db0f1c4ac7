"""The speakers of a synthesised corpus: many ways in which one espeak-ng voice speaks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from thaw.corpora.espeak import Manner
from thaw.randomness import rng

# Variants of espeak-ng that are easy to understand and peak below full scale: no whisper, croak, robot or Klatt voices.
MALE = ("m1", "m2", "m3", "m4", "m6", "m7", "Alex", "max")
FEMALE = ("f1", "f2", "f3", "f4", "f5", "Annie", "belinda", "linda")
RATES = (140, 180)  # words a minute; espeak-ng's own is 175. Slower speech was learned no better, and costs more
PITCHES = (30, 70)  # espeak-ng's own is 50
RANGES = (30, 70)  # espeak-ng's own is 50
AGES = ("twenties", "thirties", "fourties", "fifties", "sixties")  # as Common Voice spells them


@dataclass(frozen=True)
class Speaker:
    """One synthetic person."""

    client_id: str  # 128 hexadecimal digits, as in Common Voice
    gender: str  # as Common Voice spells it since release 17
    age: str
    manner: Manner


def speakers(voice: str, split: str, count: int, seed: int) -> list[Speaker]:
    """`count` speakers of one split. Genders alternate, and each variant is used once before one returns.

    More speakers do not change the earlier ones; no two splits share one.
    """
    order = rng(seed, "variants", voice, split)
    genders = [("male_masculine", order.permutation(MALE)), ("female_feminine", order.permutation(FEMALE))]
    people = []
    for index in range(count):
        draw = rng(seed, "speaker", voice, split, index)
        gender, variants = genders[index % 2]
        manner = Manner(
            variant=str(variants[index // 2 % len(variants)]),
            rate=int(draw.integers(RATES[0], RATES[1] + 1)),
            pitch=int(draw.integers(PITCHES[0], PITCHES[1] + 1)),
            range=int(draw.integers(RANGES[0], RANGES[1] + 1)),
        )
        name = f"{seed}/{voice}/{split}/{index}"
        client_id = hashlib.sha512(name.encode()).hexdigest()
        people.append(Speaker(client_id, gender, str(draw.choice(AGES)), manner))
    return people
