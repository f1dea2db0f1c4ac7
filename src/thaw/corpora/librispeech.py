"""LibriSpeech and Multilingual LibriSpeech: official archives, or a folder that the user has.

LibriSpeech (Panayotov et al. 2015; OpenSLR 12, Mini LibriSpeech: 31): SUBSET/SPEAKER/CHAPTER/*.flac, and a .trans.txt
in every chapter. MLS (Pratap et al. 2020; OpenSLR 94): SPLIT/transcripts.txt, SPLIT/audio/SPEAKER/BOOK/*.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from thaw.config.sources import LibriSpeechSource, MlsSource, Split
from thaw.corpora.archives import COMPLETE, CONTENT, unpack
from thaw.corpora.download import download
from thaw.corpora.listing import ORDER, Listed, Listing
from thaw.corpora.ownership import claim
from thaw.errors import UserError
from thaw.files import Reject

OPENSLR = "https://www.openslr.org/resources"
MLS = "https://dl.fbaipublicfiles.com/mls"
MINI = ("train-clean-5", "dev-clean-2")
MD5 = {  # as OpenSLR publishes them, md5sum.txt beside the archives
    "dev-clean": "42e2234ba48799c1f50f24a7926300a1",
    "dev-other": "c8d0bcc9cca99d4f8b62fcc847357931",
    "test-clean": "32fa31d27d2e1cad72775fee3f4849a9",
    "test-other": "fb5a50374b501bb3bac4815ee91d3135",
    "train-clean-100": "2a93770f6d5c6c964bc36631d331a522",
    "train-clean-360": "c0e676e450a7ff2f54aeade5171606fa",
    "train-other-500": "d1a0fd59409feb2c614ce4d30c387708",
    "train-clean-5": "5df7d4e78065366204ca6845bb08f490",
    "dev-clean-2": "6d7ab67ac6a1d2c993d050e16d61080d",
}
HOLDER = "LibriSpeech"  # the folder that every archive has
# The published small training sets of MLS, as lists of ids: nine hours, and six times ten minutes.
HANDLES = {"9hr": ("9hr/handles.txt",), "1hr": tuple(f"1hr/{number}/handles.txt" for number in range(6))}
HANDLES["10hr"] = HANDLES["9hr"] + HANDLES["1hr"]


def read_librispeech(source: LibriSpeechSource, root: Path, mirror: str) -> Listing:
    """List the subsets, downloaded into `root` where the source has no path.

    Rejected: "malformed row", "missing clip". Raises UserError for a subset that is not there or cannot be had.
    """
    folders = _librispeech_folders(source, root, mirror)
    listing = Listing(Path())
    for split in (split for split in ORDER if split in source.splits):
        for subset in source.splits[split]:
            listing.add(_chapters(folders[subset], split))
    return listing


def _librispeech_folders(source: LibriSpeechSource, root: Path, mirror: str) -> dict[str, Path]:
    wanted = [subset for subsets in source.splits.values() for subset in subsets]
    if not source.path:
        claim(root, {"kind": "librispeech"})
        return {name: _archived(name, _address(name), MD5[name], root, mirror) / HOLDER / name for name in wanted}
    folder = Path(source.path).expanduser()
    folder = folder / HOLDER if (folder / HOLDER).is_dir() else folder
    if missing := [name for name in wanted if not (folder / name).is_dir()]:
        raise UserError(
            f"{folder} has no folder {', '.join(missing)}; unpack them there, or choose others under `splits`"
        )
    return {name: folder / name for name in wanted}


def _address(subset: str) -> str:
    return f"{OPENSLR}/{31 if subset in MINI else 12}/{subset}.tar.gz"


def _archived(name: str, url: str, md5: str, root: Path, mirror: str) -> Path:
    """The folder that an archive is unpacked to. The archive goes once all of it is unpacked: it is as large again."""
    folder = root / name
    if not (folder / COMPLETE).exists():
        archive = download(url, root / f"{name}.tar.gz", md5=md5, mirror=mirror)
        unpack(archive, folder)
        archive.unlink()
    return folder / CONTENT


def _chapters(folder: Path, split: Split) -> Iterator[Listed | Reject]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder in the archive; it is not LibriSpeech as published")
    for path in sorted(folder.glob("*/*/*.trans.txt")):
        for row in _transcripts(path, " ", split):
            if isinstance(row, Listed):
                speaker, clip = row.id.split("-")[0], path.parent / f"{row.id}.flac"
                row = replace(row, speaker=speaker, file=str(clip))
            yield row


def read_mls(source: MlsSource, root: Path, mirror: str) -> Listing:
    """List one language, downloaded into `root` where the source has no path.

    Rejected: "malformed row", "missing clip". Raises UserError for a table that is not there, or an archive that cannot
    be had. The publisher gives no checksums: a wrong download shows as a broken archive.
    """
    name = f"mls_{source.language}" + ("_opus" if source.format == "opus" else "")
    if source.path:
        folder = Path(source.path).expanduser()
    else:
        claim(root, {"kind": "mls", "name": name})
        folder = _archived(name, f"{MLS}/{name}.tar.gz", "", root, mirror)
    folder = next((inner for inner in (folder, folder / name) if (inner / "train").is_dir()), folder)
    kept = _handles(folder, source.train)
    listing = Listing(Path())
    for split in ORDER:
        rows = _mls_rows(folder / split, split)
        listing.add(row for row in rows if split != "train" or kept is None or row.id in kept)
    return listing


def _handles(folder: Path, train: str) -> set[str] | None:
    if train == "all":
        return None
    ids: set[str] = set()
    for name in HANDLES[train]:
        path = folder / "train" / "limited_supervision" / name
        if not path.is_file():
            raise UserError(f"{path}: no such file; set `train: all`, or give MLS as published")
        ids.update(path.read_text(encoding="utf-8").split())
    return ids


def _mls_rows(folder: Path, split: Split) -> Iterator[Listed | Reject]:
    table = folder / "transcripts.txt"
    if not table.is_file():
        raise UserError(f"{table}: no such file; give the folder of one language of MLS (with train/, dev/, test/)")
    # A language is all FLAC or all Opus; the first clip tells.
    ending = next((path.suffix for path in folder.glob("audio/*/*/*")), ".flac")
    for row in _transcripts(table, "\t", split):
        if isinstance(row, Listed):
            speaker, book = (*row.id.split("_"), "")[:2]
            row = replace(row, speaker=speaker, file=str(folder / "audio" / speaker / book / f"{row.id}{ending}"))
        yield row


def _transcripts(path: Path, separator: str, split: Split) -> Iterator[Listed | Reject]:
    """The lines "ID text" of one file; speaker and clip are still empty."""
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            name, found, text = line.decode("utf-8").partition(separator)
        except UnicodeDecodeError:
            name, found, text = "", "", ""
        if found and name and "/" not in name and not name.startswith("."):
            yield Listed(name, split, text, "", "")
        elif line.strip():
            yield Reject(f"{path.name}:{number}", split, "fetch", "malformed row", "no id and text")
