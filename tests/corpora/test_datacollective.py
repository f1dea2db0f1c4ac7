"""Mozilla Data Collective, played by a server here: each of its answers, signed addresses that end, and a quiet key."""

from __future__ import annotations

import hashlib
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.corpora.badserver import BadServer, Step
from thaw.corpora.datacollective import KEY, Offer, api_key, fetch_archive, resolve
from thaw.corpora.web import Patience
from thaw.errors import UserError

DATA = random.Random(2).randbytes(200_000)
HALF = len(DATA) // 2
SHA256 = hashlib.sha256(DATA).hexdigest()
ID = "cmn2g8zqd01m2mm07prcmehku"
ASK = f"api/datasets/{ID}/download"
SECRET = "mdc-d3adb33f"
SIGNATURES = ("X-Signature=f1rst", "X-Signature=s3cond", "X-Signature=th1rd")
HASTE = Patience(retries=2, timeout=0.3, first_wait=0.01, longest_wait=0.05)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)


def answer(server: BadServer, signature: str = SIGNATURES[0], **changes: Any) -> Step:
    """What the service sends. Its sizes are strings."""
    url = f"{server.url('storage/de.tar.gz')}?{signature}"
    body = {"downloadUrl": url, "sizeBytes": str(len(DATA)), "checksum": SHA256, "filename": "de.tar.gz"}
    return Step(data=json.dumps({**body, "downloadToken": SECRET, **changes}).encode())


def fetch(server: BadServer, path: Path, **options: Any) -> Path:
    return fetch_archive(ID, path, base=server.url("").rstrip("/"), patience=HASTE, **options)


def ask(server: BadServer, dataset_id: str = ID) -> Offer:
    return resolve(dataset_id, base=server.url("").rstrip("/"), patience=HASTE)


def test_an_archive_comes(tmp_path: Path, server: BadServer) -> None:
    server.serve(ASK, b"", answer(server))
    server.serve("storage/de.tar.gz", DATA, Step(drop=HALF), Step())
    assert fetch(server, tmp_path / "de.tar.gz").read_bytes() == DATA
    asked, *stored = server.seen
    assert (asked.method, asked.headers["Authorization"]) == ("POST", f"Bearer {SECRET}")
    assert [seen.range for seen in stored] == [None, f"bytes={HALF}-"]
    assert not any("Authorization" in seen.headers for seen in stored)
    assert fetch(server, tmp_path / "de.tar.gz", sha256=SHA256)
    assert len(server.seen) == 3  # each question counts against a quota: a file that is there needs none


def test_an_offer(server: BadServer) -> None:
    server.serve(ASK, b"", answer(server), answer(server, checksum=None, sizeBytes=7))
    url = f"{server.url('storage/de.tar.gz')}?{SIGNATURES[0]}"
    assert ask(server) == Offer(url, len(DATA), SHA256, "de.tar.gz")
    assert ask(server) == Offer(url, 7, "", "de.tar.gz")
    assert SIGNATURES[0] not in repr(ask(server))


def test_an_address_that_ends_is_renewed(tmp_path: Path, server: BadServer) -> None:
    server.serve(ASK, b"", *(answer(server, signature) for signature in SIGNATURES))
    server.serve("storage/de.tar.gz", DATA, Step(drop=HALF), Step(403), Step(drop=9), Step(400), Step())
    assert fetch(server, tmp_path / "de.tar.gz").read_bytes() == DATA
    stored = [seen for seen in server.seen if seen.method == "GET"]
    assert [seen.path.partition("?")[2] for seen in stored] == [SIGNATURES[n] for n in (0, 0, 1, 1, 2)]
    assert stored[-1].range == f"bytes={HALF + 9}-"


def test_the_next_process_goes_on_with_its_own_address(tmp_path: Path, server: BadServer) -> None:
    server.serve(ASK, b"", *(answer(server, signature) for signature in SIGNATURES))
    server.serve("storage/de.tar.gz", DATA, Step(drop=HALF), Step(500), Step(500), Step())
    with pytest.raises(UserError, match="gave up after 3 attempts"):
        fetch(server, tmp_path / "de.tar.gz")
    assert fetch(server, tmp_path / "de.tar.gz").read_bytes() == DATA
    assert server.seen[-1].path.endswith(SIGNATURES[1])
    assert server.seen[-1].range == f"bytes={HALF}-"


def test_a_fresh_address_that_is_refused_ends_it(tmp_path: Path, server: BadServer) -> None:
    server.serve(ASK, b"", answer(server))
    server.serve("storage/de.tar.gz", DATA, Step(403))
    with pytest.raises(UserError, match=r"refused \(403\), by a fresh address too"):
        fetch(server, tmp_path / "de.tar.gz")
    assert [seen.method for seen in server.seen] == ["POST", "GET", "POST", "GET"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "the id is the last part of its page's address"),
        (401, "does not accept the key in MDC_API_KEY (401); make a new one at"),
        (402, "wants to be paid"),
        (403, f"/datasets/{ID} in a browser, signed in, accept its terms"),
        (404, f"has no data set '{ID}' (404)"),
        (418, "an answer that is not known (418)"),
    ],
)
def test_each_refusal_says_what_to_do(server: BadServer, status: int, words: str) -> None:
    server.serve(ASK, b"", Step(status, data=f'{{"error": "{SECRET}"}}'.encode()))
    with pytest.raises(UserError) as caught:
        ask(server)
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)
    assert len(server.seen) == 1


def test_trouble_that_passes(server: BadServer) -> None:
    trouble = [Step(500), Step(429, {"Retry-After": "0"})]
    server.serve(ASK, b"", *trouble, answer(server), Step(drop=0, data=b"{}"), Step(data=b"{", claim=1), answer(server))
    assert ask(server) == ask(server)
    assert len(server.seen) == 6


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Step(500), r"trouble \(500\); gave up after 3 attempts"),
        (Step(silent=True), "no answer for 0.3 s; gave up after 3 attempts"),
        (Step(429, {"Retry-After": "36000"}), "wait 600 minutes: come back then"),  # the daily quota
        (Step(data=b"<html>"), "does not understand"),
        (Step(data=b"[]"), "does not understand"),
        (Step(data=b'{"downloadUrl": 1}'), "does not understand"),
        (Step(data=b'{"downloadUrl": "https://a.org/b", "sizeBytes": "many"}'), "does not understand"),
        (Step(data=b'{"downloadUrl": "https://a.org/b", "checksum": "md5:1"}'), "does not understand"),
        (Step(data=b'{"downloadUrl": "file:///etc/hostname"}'), "not an address"),
        (Step(307, {"Location": "http://127.0.0.1:1/"}), "moved to http://127.0.0.1:1/, where the key is not sent"),
    ],
)
def test_trouble_that_stays(server: BadServer, step: Step, words: str) -> None:
    server.serve(ASK, b"", step)
    started = time.monotonic()
    with pytest.raises(UserError, match=words):
        ask(server)
    assert time.monotonic() - started < 3


def test_an_id_is_checked_before_it_is_sent(server: BadServer) -> None:
    for wrong in ("", "a/../b", "a?b", "https://mozilladatacollective.com/datasets/x"):
        with pytest.raises(UserError, match="is not the id of a data set"):
            ask(server, wrong)
    assert not server.seen


def test_without_a_key(tmp_path: Path, server: BadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, " ")
    with pytest.raises(UserError, match="profile/credentials, and put it into the environment variable MDC_API_KEY"):
        fetch(server, tmp_path / "de.tar.gz")
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "de.tar.gz").write_bytes(DATA)
    mirror = str(tmp_path / "mirror")
    assert fetch(server, tmp_path / "de.tar.gz", sha256=SHA256, mirror=mirror).read_bytes() == DATA
    monkeypatch.setenv(KEY, "two words")
    with pytest.raises(UserError, match="characters that no key has") as caught:
        api_key()
    assert "two words" not in str(caught.value)
    assert not server.seen


def test_a_key_is_not_sent_in_the_clear() -> None:
    with pytest.raises(UserError, match="not sent over plain http"):
        resolve(ID, base="http://localhost:1")


def test_another_release_than_expected_is_not_fetched(tmp_path: Path, server: BadServer) -> None:
    server.serve(ASK, b"", answer(server, checksum="0" * 64))
    with pytest.raises(UserError, match=f"sha256 {'0' * 64}, expected {SHA256}"):
        fetch(server, tmp_path / "de.tar.gz", sha256=SHA256)
    assert len(server.seen) == 1


def test_the_key_and_the_addresses_stay_secret(
    tmp_path: Path, server: BadServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.serve(ASK, b"", Step(500), *(answer(server, signature, checksum="0" * 64) for signature in SIGNATURES))
    steps = [Step(drop=HALF), Step(403), Step(500), Step(), Step(data=b"x" * len(DATA))]
    server.serve("storage/de.tar.gz", DATA, *steps)
    said = ""
    for _ in range(2):
        error: BaseException | None
        with pytest.raises(UserError) as caught:
            fetch(server, tmp_path / "de.tar.gz")
        error = caught.value
        while error:
            said += f"{error} {error!r}"
            error = error.__cause__ or error.__context__
        server.serve("storage/de.tar.gz", DATA, Step(drop=9))
    said += "".join(capfd.readouterr())
    said += "".join(path.read_bytes().decode("latin-1") for path in tmp_path.iterdir())
    assert server.url("storage/de.tar.gz") in said
    for word in ("twice", "gave up", "trouble (500)", '"identity"'):
        assert word in said
    for secret in (SECRET, *(signature.partition("=")[2] for signature in SIGNATURES)):
        assert secret not in said
        assert any(secret in f"{seen.path} {seen.headers}" for seen in server.seen)
