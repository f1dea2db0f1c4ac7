"""Downloads from a server that misbehaves: a retry or one clear line, within bounded time, and whole files only."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.corpora.badserver import BadServer, Step
from tests.corpora.downloads import DATA, HALF, HASTE, KEY, REST, SIGNATURE, everything, refused
from thaw.corpora import download as module
from thaw.corpora.download import download
from thaw.corpora.web import show
from thaw.errors import UserError

SHA256 = hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA).hexdigest()


def nothing_else(folder: Path, *names: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


# --- what goes well, sooner or later --------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"sha256": SHA256.upper()}, {"md5": MD5, "size": len(DATA)}])
def test_a_good_server(tmp_path: Path, server: BadServer, options: dict[str, Any]) -> None:
    path = download(server.serve("a.tar.gz", DATA), tmp_path / "new" / "a.tar.gz", patience=HASTE, **options)
    assert path.read_bytes() == DATA
    nothing_else(path.parent, "a.tar.gz")
    assert len(server.seen) == 1


class Case(NamedTuple):
    steps: list[Step]
    ranges: list[str | None]  # asked for, request by request


RECOVERABLE = {
    "drop": Case([Step(drop=HALF), Step()], [None, REST]),
    "two drops": Case([Step(drop=HALF), Step(drop=1000), Step()], [None, REST, f"bytes={HALF + 1000}-"]),
    "drop before the first byte": Case([Step(drop=0), Step()], [None, None]),
    "stall": Case([Step(stall=HALF), Step()], [None, REST]),
    "claims too much": Case([Step(drop=HALF, claim=99), Step(claim=99), Step()], [None, REST, None]),
    "chunked": Case([Step(chunked=True, piece=5000)], [None]),
    "chunked, dropped": Case([Step(chunked=True, drop=HALF), Step()], [None, REST]),
    "ignores Range": Case([Step(drop=HALF), Step(ranges=False)], [None, REST]),
    "another ETag": Case([Step(drop=HALF, data=b"old" * 100_000), Step(etag='"two"')], [None, REST]),
    "another ETag, If-Range ignored": Case(
        [Step(drop=HALF, data=b"old" * 100_000), Step(etag='"two"', compares=False)], [None, REST, None]
    ),
    "another size, If-Range ignored": Case(
        [Step(drop=HALF, data=b"old" * 200_000), Step(etag="", compares=False)], [None, REST, None]
    ),
    "Last-Modified alone": Case(
        [Step(drop=HALF, etag="", modified="Mon, 01 Jan 2024 00:00:00 GMT")] * 1
        + [Step(etag="", modified="Mon, 01 Jan 2024 00:00:00 GMT")],
        [None, REST],
    ),
    "a weak ETag alone": Case([Step(drop=HALF, etag='W/"one"'), Step()], [None, None]),
    "nothing to compare": Case([Step(drop=HALF, etag=""), Step()], [None, None]),
    "500": Case([Step(500), Step(503), Step()], [None, None, None]),
    "429 in the middle": Case([Step(drop=HALF), Step(429, {"Retry-After": "0"}), Step()], [None, REST, REST]),
}


@pytest.mark.parametrize("case", RECOVERABLE.values(), ids=list(RECOVERABLE))
def test_trouble_that_passes(tmp_path: Path, server: BadServer, case: Case) -> None:
    path = download(server.serve("a", DATA, *case.steps), tmp_path / "a", patience=HASTE)
    assert path.read_bytes() == DATA
    assert [seen.range for seen in server.seen] == case.ranges
    nothing_else(tmp_path, "a")


def test_if_range_names_the_version(tmp_path: Path, server: BadServer) -> None:
    download(server.serve("a", DATA, Step(drop=HALF), Step()), tmp_path / "a", patience=HASTE)
    assert server.seen[1].headers["If-Range"] == '"one"'


def test_a_checksum_makes_any_beginning_worth_keeping(tmp_path: Path, server: BadServer) -> None:
    url = server.serve("a", DATA, Step(drop=HALF, etag=""), Step(etag=""))
    assert download(url, tmp_path / "a", sha256=SHA256, patience=HASTE).read_bytes() == DATA
    assert server.seen[1].range == REST


def test_progress_makes_earlier_failures_forgotten(
    tmp_path: Path, server: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NEWS", 10_000)
    steps = [Step(drop=20_000)] * 10 + [Step()]
    path = download(server.serve("a", DATA, *steps), tmp_path / "a", patience=HASTE)
    assert path.read_bytes() == DATA
    assert len(server.seen) == 11


def test_all_of_it_came_but_the_end_was_not_heard(tmp_path: Path, server: BadServer) -> None:
    """Without a length, a client killed after the last byte cannot know that it was the last."""
    url = server.serve("a", DATA)
    (tmp_path / "a.part").write_bytes(DATA)
    note = {"identity": show(url), "etag": '"one"', "modified": "", "total": None}
    (tmp_path / "a.part.json").write_text(json.dumps(note))
    assert download(url, tmp_path / "a", patience=HASTE).read_bytes() == DATA
    assert [seen.range for seen in server.seen] == [f"bytes={len(DATA)}-"]


def test_the_beginning_of_another_file_is_dropped(tmp_path: Path, server: BadServer) -> None:
    refused(server.serve("old", b"old" * 100_000, Step(drop=HALF), Step(404)), tmp_path / "a")
    assert (tmp_path / "a.part").stat().st_size == HALF
    assert download(server.serve("new", DATA), tmp_path / "a", patience=HASTE).read_bytes() == DATA
    assert server.seen[-1].range is None


def test_a_broken_note_is_no_obstacle(tmp_path: Path, server: BadServer) -> None:
    (tmp_path / "a.part").write_bytes(b"what?")
    (tmp_path / "a.part.json").write_text('["not a note"]')
    assert download(server.serve("a", DATA), tmp_path / "a", patience=HASTE).read_bytes() == DATA


def test_an_empty_file(tmp_path: Path, server: BadServer) -> None:
    assert download(server.serve("a", b""), tmp_path / "a", patience=HASTE).read_bytes() == b""
    nothing_else(tmp_path, "a")


def test_a_file_that_is_there_is_not_asked_for(tmp_path: Path, server: BadServer) -> None:
    (tmp_path / "a").write_bytes(DATA)
    download(server.url("a"), tmp_path / "a", sha256=SHA256, patience=HASTE)
    assert not server.seen
    (tmp_path / "a").write_bytes(b"damaged")
    assert download(server.serve("a", DATA), tmp_path / "a", sha256=SHA256, patience=HASTE).read_bytes() == DATA


# --- what ends in a message -----------------------------------------------------------------------

HOPELESS = {
    "401": ([Step(401)], 1, "a key is missing or wrong (401)"),
    "403": ([Step(403)], 1, "refused (403); open it in a browser"),
    "404": ([Step(404)], 1, "no such file there (404)"),
    "418": ([Step(418)], 1, "no file (418)"),
    "204": ([Step(204)], 1, "no file (204)"),
    "500": ([Step(500)], 4, "trouble (500); gave up after 4 attempts"),
    "429": ([Step(429)], 4, "too many requests (429); gave up after 4 attempts"),
    "429 till tomorrow": ([Step(429, {"Retry-After": "86400"})], 1, "asks to wait 1440 minutes"),
    "drops": ([Step(drop=0)], 4, f"ended after 0 of {len(DATA)} bytes; gave up after 4 attempts"),
    "stalls": ([Step(stall=0)], 4, "no answer for 0.2 s; gave up"),
    "never answers": ([Step(silent=True)], 4, "no answer for 0.2 s; gave up"),
    "trickles": ([Step(piece=10, pause=0.04)], 4, "fewer than 1000 bytes a second; gave up"),
    "drops, Range ignored": ([Step(drop=HALF, ranges=False)], 4, "gave up after 4 attempts"),
    "claims too much": ([Step(claim=99, ranges=False)], 4, f"ended after {len(DATA)} of {len(DATA) + 99} bytes"),
    "new ETag each time": ([Step(drop=HALF, etag=f'"{n}"') for n in range(9)], 4, "gave up after 4 attempts"),
    "never says its length": ([Step(unsized=True)], 1, "does not say how long it is"),
    "redirects to itself": ([Step(302, {"Location": "/a"})], 6, "redirected more than 5 times"),
    "redirects to nowhere": ([Step(302)], 1, "redirected to nowhere"),
    "redirects to a local file": ([Step(302, {"Location": "file:///etc/hostname"})], 1, "not an address"),
    "redirects to another protocol": ([Step(302, {"Location": "ftp://127.0.0.1/a"})], 1, "not an address"),
}


@pytest.mark.parametrize(("steps", "requests", "words"), HOPELESS.values(), ids=list(HOPELESS))
def test_trouble_that_stays(tmp_path: Path, server: BadServer, steps: list[Step], requests: int, words: str) -> None:
    assert words in refused(server.serve("a", DATA, *steps), tmp_path / "a")
    assert len(server.seen) == requests
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("expected", "step", "words"),
    [
        ({"sha256": SHA256}, Step(data=b"x" * 300_000), f"expected {SHA256}, twice"),
        ({"md5": MD5}, Step(data=b"x"), f"its md5 is {hashlib.md5(b'x').hexdigest()}, expected {MD5}"),
        ({"size": 300_000}, Step(claim=1), "it has 300001 bytes, expected 300000"),
        ({"size": 300_000}, Step(claim=-1), "it has 299999 bytes, expected 300000"),
        ({"size": 300_000}, Step(data=b"x" * 900_000, unsized=True), "more than the 300000 bytes expected"),
        ({"sha256": SHA256}, Step(claim=-1), f"expected {SHA256}, twice"),
    ],
)
def test_a_wrong_file_is_tried_once_more_and_removed(
    tmp_path: Path, server: BadServer, expected: dict[str, Any], step: Step, words: str
) -> None:
    assert words in refused(server.serve("a", DATA, step), tmp_path / "a", **expected)
    assert [seen.range for seen in server.seen] == [None, None]
    nothing_else(tmp_path)


def test_a_wrong_beginning_is_found_out(tmp_path: Path, server: BadServer) -> None:
    url = server.serve("a", DATA, Step(data=b"x" * 300_000, drop=HALF), Step())
    assert download(url, tmp_path / "a", sha256=SHA256, patience=HASTE).read_bytes() == DATA
    assert [seen.range for seen in server.seen] == [None, REST, None]


def test_a_checksum_that_is_none(tmp_path: Path) -> None:
    assert "not 64 hexadecimal digits" in refused("http://127.0.0.1/a", tmp_path / "a", sha256=MD5)


def test_what_came_is_kept_and_said(tmp_path: Path, server: BadServer) -> None:
    url = server.serve("a", DATA, Step(drop=HALF), Step(500))
    assert "0.1 MB are kept, the same command goes on" in refused(url, tmp_path / "a")
    server.serve("a", DATA)
    assert download(url, tmp_path / "a", patience=HASTE).read_bytes() == DATA
    assert server.seen[-1].range == REST


def test_progress_is_told(tmp_path: Path, server: BadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRESS_SECONDS", 0.05)
    lines: list[str] = []
    url = server.serve("a", b"x" * 4_000_000, Step(piece=400_000, pause=0.03))
    download(url, tmp_path / "a", patience=HASTE, progress=lines.append)
    assert 2 <= len(lines) <= 9
    assert all(line.startswith("a: ") and " of 4 MB, " in line and " MB/s, 0 min left" in line for line in lines)


# --- disks and processes --------------------------------------------------------------------------

CHILD = """
import resource, sys
from pathlib import Path
from thaw.corpora.download import download
if int(sys.argv[3]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
download(sys.argv[1], Path(sys.argv[2]))
"""


def child(url: str, path: Path, most: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, url, str(path), str(most)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_killed_in_the_middle(tmp_path: Path, server: BadServer) -> None:
    url = server.serve("a", DATA, Step(stall=HALF), Step())
    with child(url, tmp_path / "a") as process:
        part, deadline = tmp_path / "a.part", time.monotonic() + 10
        while not (part.exists() and part.stat().st_size == HALF):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "another process is downloading it" in refused(url, tmp_path / "a")
        process.send_signal(signal.SIGKILL)
    assert download(url, tmp_path / "a", patience=HASTE).read_bytes() == DATA
    assert [seen.range for seen in server.seen] == [None, REST]
    nothing_else(tmp_path, "a")


def test_the_disk_fills_up(tmp_path: Path, server: BadServer) -> None:
    """A limit on the size of files stands in for a full disk: the system refuses the write in the same way."""
    url = server.serve("a", DATA)
    with child(url, tmp_path / "a", most=100_000) as process:
        _, errors = process.communicate(timeout=10)
    assert f"cannot write {tmp_path / 'a.part'}: File too large" in errors
    assert (tmp_path / "a.part").stat().st_size == 100_000
    assert download(url, tmp_path / "a", patience=HASTE).read_bytes() == DATA
    assert server.seen[-1].range == "bytes=100000-"


def test_too_little_room_is_seen_before(tmp_path: Path, server: BadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 7_000_000))
    url = server.serve("a", b"x" * 8_000_000)
    assert "8 MB are to come, and the disk has 7 MB free" in refused(url, tmp_path / "a")


def test_a_folder_that_cannot_be_written(tmp_path: Path, server: BadServer) -> None:
    (tmp_path / "file").touch()
    assert "cannot write" in refused(server.serve("a", DATA), tmp_path / "file" / "a")


# --- mirrors --------------------------------------------------------------------------------------


def test_a_mirror_folder_comes_first(tmp_path: Path, server: BadServer) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "a").write_bytes(DATA)
    for number, place in enumerate([str(mirror), mirror.as_uri()]):
        path = tmp_path / str(number) / "a"
        assert download(server.url("a"), path, sha256=SHA256, mirror=place).read_bytes() == DATA
        assert path.is_symlink()  # 30 GB are not copied
    assert not server.seen
    (mirror / "a").write_bytes(b"other")
    message = refused(server.url("a"), tmp_path / "b" / "a", sha256=SHA256, mirror=str(mirror))
    assert str(mirror / "a") in message
    assert f"expected {SHA256}" in message


def test_what_a_mirror_lacks_comes_from_its_place(tmp_path: Path, server: BadServer) -> None:
    url, lines = server.serve("a", DATA), list[str]()
    for place in (tmp_path, server.url("mirror/")):
        (tmp_path / "new" / "a").unlink(missing_ok=True)
        path = download(url, tmp_path / "new" / "a", mirror=str(place), patience=HASTE, progress=lines.append)
        assert path.read_bytes() == DATA
    assert lines == [f"a: not in the mirror {tmp_path}", f"a: not at the mirror {server.url('mirror/')}"]
    assert "no such folder" in refused(url, tmp_path / "b", mirror=str(tmp_path / "typo"))


def test_a_mirror_on_the_web_is_checked_and_gets_no_key(tmp_path: Path, server: BadServer) -> None:
    server.serve("mirror/a%20b", DATA, Step(drop=HALF), Step())
    headers = {"Authorization": KEY}
    mirror = server.url("mirror")
    download(server.url("a"), tmp_path / "a b", sha256=SHA256, mirror=mirror, headers=headers, patience=HASTE)
    assert [seen.path for seen in server.seen] == ["/mirror/a%20b"] * 2
    assert not any("Authorization" in seen.headers for seen in server.seen)
    server.serve("mirror/c", b"other")
    message = refused(server.url("c"), tmp_path / "c", sha256=SHA256, mirror=mirror)
    assert server.url("mirror/c") in message


def test_a_file_address(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    assert download((tmp_path / "a").as_uri(), tmp_path / "b", sha256=SHA256).read_bytes() == DATA
    assert "no such file" in refused((tmp_path / "c").as_uri(), tmp_path / "d")


# --- secrets --------------------------------------------------------------------------------------


def test_nothing_secret_is_shown_or_written(
    tmp_path: Path, server: BadServer, capfd: pytest.CaptureFixture[str]
) -> None:
    headers, said = {"Authorization": f"Bearer {KEY}"}, ""
    moved = Step(302, {"Location": f"http://127.0.0.1:1/b?{SIGNATURE}"})
    endings = [moved, Step(302, {"Location": f"http://127.0.0.1:port/?{SIGNATURE}"})]
    for step in [
        *endings,
        *(step for steps, _, _ in HOPELESS.values() for step in steps[:1] if not (step.silent or step.stall == 0)),
    ]:
        url = server.serve("a", DATA, Step(drop=HALF), step)
        with pytest.raises(UserError) as caught:
            download(f"{url}?{SIGNATURE}", tmp_path / "a", headers=headers, sha256="0" * 64, patience=HASTE)
        said += everything(caught.value)
    with pytest.raises(UserError, match="Authorization") as caught:
        download(url, tmp_path / "a", headers={"Authorization": f"Bearer {KEY}\n"}, patience=HASTE)
    said += everything(caught.value) + "".join(capfd.readouterr())
    assert url in said  # so much is shown
    assert "kept" in said
    for path in tmp_path.iterdir():
        said += path.read_bytes().decode("latin-1")
    assert f"Bearer {KEY}" == server.seen[0].headers["Authorization"]
    assert SIGNATURE in server.seen[0].path
    for secret in (KEY, SIGNATURE, "5ec7e75196"):
        assert secret not in said
