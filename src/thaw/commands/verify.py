"""`thaw verify`: whether every file under results still has the bytes that were written there."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from thaw.errors import UserError

HELP = "compare every result with the digest that was taken when it was written"
EXAMPLE = "thaw verify results"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `thaw verify`."""
    parser.add_argument("roots", nargs="*", type=Path, default=[Path("results")], help="folders (default: results)")


def run(args: argparse.Namespace) -> None:
    """Name every damaged file, one a line. Raises UserError where there is one."""
    count = 0
    bad: list[str] = []
    for root in args.roots:
        if not root.is_dir():
            raise UserError(f"{root}: no such folder")
        for found in damages(root):
            count += 1
            bad += [found] if found else []
    if bad:
        raise UserError("\n".join(bad))
    print(f"{count} files are as they were written")


def damages(root: Path) -> Iterator[str]:
    """For every sealed file and every shard: what is wrong with it; empty where nothing is. Missing files are none."""
    from thaw.files import verify

    for seal in sorted(root.rglob(".*.sha256")):
        path = seal.with_name(seal.name[1:].removesuffix(".sha256"))
        if path.is_file():
            yield _said(partial(verify, path))
    for index in sorted(root.glob("audio/*/*.jsonl")):
        if index.with_suffix(".wav").exists():
            yield _said(partial(check_shard, index))


def check_shard(index: Path) -> None:
    """Raise UserError where a clip of a shard is not what its index says."""
    from thaw.audio.wav import clip_digest, read_pcm
    from thaw.files import read_jsonl

    wav = index.with_suffix(".wav")
    for row in read_jsonl(index):
        if clip_digest(read_pcm(wav, row["offset"], row["samples"])) != row["digest"]:
            raise UserError(f"{wav}: damaged: the samples of {row['id']!r} are not those of {index.name}; delete it")


def _said(check: Callable[[], None]) -> str:
    try:
        check()
    except UserError as error:
        return str(error)
    return ""
