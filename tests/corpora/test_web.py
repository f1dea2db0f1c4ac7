"""Addresses, redirects, proxies, waits, secrets and certificates, as downloads meet them."""

from __future__ import annotations

import email.utils
import shutil
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from tests.corpora.badserver import BadServer, Step
from tests.corpora.downloads import DATA, HALF, HASTE, KEY, REST, SIGNATURE, everything, refused
from thaw.corpora.download import download
from thaw.corpora.web import Patience, checked, next_address, show
from thaw.errors import UserError

# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://127.0.0.1/a", "a.tar.gz", "http://", "http://u:hidden@127.0.0.1/a", "http://127.0.0.1/a b?hidden"),
        *("http://127.0.0.1:port/?hidden", "http://[::1/?hidden", "http://127.0.0.1/ä", "http://127.0.0.1/\n?hidden"),
    ],
)
def test_an_address_that_is_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match="not an address") as caught:
        download(url, tmp_path / "a")
    assert "hidden" not in everything(caught.value)


def test_an_address_is_shown_without_its_secrets() -> None:
    assert show(f"https://me:{KEY}@example.org:8443/a/b.tar.gz?{SIGNATURE}#c") == "https://example.org:8443/a/b.tar.gz"


# --- requests -------------------------------------------------------------------------------------


def test_redirects_are_followed(tmp_path: Path, server: BadServer) -> None:
    server.serve("here", DATA, Step(drop=HALF), Step())
    url = server.serve("there", b"", Step(302, {"Location": "/then%20on"}))
    server.serve("then%20on", b"", Step(308, {"Location": server.url("here")}))
    assert download(url, tmp_path / "a", patience=HASTE).read_bytes() == DATA
    assert [(seen.path, seen.range) for seen in server.seen] == [
        *[("/there", None), ("/then%20on", None), ("/here", None)],
        *[("/there", REST), ("/then%20on", REST), ("/here", REST)],
    ]


def test_the_proxy_of_the_environment(tmp_path: Path, server: BadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url(""))
    monkeypatch.setenv("no_proxy", "")
    server.routes["http://corpus.invalid/a"] = (DATA, [Step()])
    assert download("http://corpus.invalid/a", tmp_path / "a", patience=HASTE).read_bytes() == DATA


def test_nobody_answers(tmp_path: Path) -> None:
    with BadServer() as server:
        url = server.url("a")
    message = refused(url, tmp_path / "a")
    assert "no connection (Connection refused); gave up after 4 attempts" in message
    assert "name it as `mirror`" in message


def test_waits_double_and_retry_after_counts(
    tmp_path: Path, server: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    soon = email.utils.formatdate(time.time() + 100, usegmt=True)
    steps = [*[Step(500)] * 3, Step(503, {"Retry-After": "30"}), Step(429, {"Retry-After": soon})]
    url = server.serve("a", DATA, *steps, Step(429, {"Retry-After": "in a while"}), Step())
    download(url, tmp_path / "a", patience=Patience(longest_wait=3))
    assert waits[:4] == [1, 2, 3, 30]
    assert 90 < waits[4] <= 100
    assert waits[5:] == [3]


def test_headers_stay_with_the_first_server(tmp_path: Path, server: BadServer) -> None:
    with BadServer() as other:
        other.serve("file", b"", Step(302, {"Location": server.url("file")}))
        url = server.serve("a", b"", Step(302, {"Location": "/b"}))
        server.serve("b", b"", Step(302, {"Location": other.url("file")}))
        server.serve("file", DATA)
        download(url, tmp_path / "a", headers={"Authorization": f"Bearer {KEY}", "X-Key": KEY}, patience=HASTE)
    assert [KEY in str(seen.headers) for seen in server.seen] == [True, True, True]
    assert [KEY in str(seen.headers) for seen in other.seen] == [False]


# --- https ----------------------------------------------------------------------------------------


def test_a_redirect_never_leaves_https() -> None:
    assert next_address("https://a.org/x?y", "//b.org/z") == "https://b.org/z"
    assert next_address("http://a.org/x", "https://b.org/z?a=b c") == "https://b.org/z?a=b%20c"
    with pytest.raises(UserError, match="from https to plain http"):
        next_address("https://a.org/x", "http://a.org/x")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate")
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    options = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run([*command.split(), *options], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def test_over_https(tmp_path: Path, server: BadServer, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with BadServer(tls=context) as secure:
        url = secure.serve("a", DATA, Step(drop=HALF), Step())
        assert "its certificate cannot be verified" in refused(url, tmp_path / "a")
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        assert download(url, tmp_path / "a", patience=HASTE).read_bytes() == DATA
        server.serve("b", DATA)
        url = secure.serve("b", b"", Step(301, {"Location": server.url("b")}))
        assert "redirected from https to plain http" in refused(url, tmp_path / "b")
        assert checked(url).scheme == "https"
    assert not server.seen
