"""A web server on 127.0.0.1 that does all that a server should not, in the order it is told to."""

from __future__ import annotations

import re
import ssl
import threading
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Step:
    """What happens to one request. The default is a good server: ranges, If-Range, ETag, the right length."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    data: bytes | None = None  # instead of the route's own
    etag: str = '"one"'
    modified: str = ""
    ranges: bool = True  # False: Range is ignored
    compares: bool = True  # False: If-Range is ignored
    claim: int = 0  # added to the Content-Length that would be right; what is claimed too much never comes
    unsized: bool = False  # no Content-Length
    chunked: bool = False
    drop: int | None = None  # the connection ends after so many bytes of the body
    stall: int | None = None  # silence after so many bytes of the body
    silent: bool = False  # not even a status
    piece: int = 1 << 16  # bytes sent at once
    pause: float = 0.0  # seconds between two pieces


@dataclass(frozen=True)
class Seen:
    """One request as it came in."""

    method: str
    path: str  # with its query
    headers: Message

    @property
    def range(self) -> str | None:
        return self.headers.get("Range")


class BadServer(ThreadingHTTPServer):
    """`serve` says what a path does; `seen` is what was asked for, in order."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tls = tls
        self.routes: dict[str, tuple[bytes, list[Step]]] = {}
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def serve(self, name: str, data: bytes, *steps: Step) -> str:
        """Let /`name` answer with `data`, one step a request, the last one for ever. Returns its address."""
        self.routes[f"/{name}"] = (data, list(steps or [Step()]))
        return self.url(name)

    def url(self, name: str) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.server_address[1]}/{name}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what most of this is about."""


class _Handler(BaseHTTPRequestHandler):
    server: BadServer

    def do_GET(self) -> None:
        self.server.seen.append(Seen(self.command, self.path, self.headers))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data, steps = self.server.routes.get(self.path.partition("?")[0], (b"", [Step(404)]))
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        if step.silent:
            self.server.closing.wait(30)
            return
        self._answer(step, data if step.data is None else step.data)

    do_POST = do_GET  # noqa: N815

    def _answer(self, step: Step, data: bytes) -> None:
        status, headers, body = step.status, dict(step.headers), data
        if status == 200:
            status, headers, body = self._ranged(step, data)
            headers |= step.headers
        self.send_response(status)
        if step.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif not step.unsized:
            headers["Content-Length"] = str(len(body) + step.claim)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self._send(step, body)

    def _ranged(self, step: Step, data: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {"ETag": step.etag, "Last-Modified": step.modified}
        headers = {name: value for name, value in headers.items() if value}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, step.etag, step.modified) or not step.compares
        if not asked or not step.ranges or not same:
            return 200, headers, data
        start = int(asked[1])
        if start >= len(data):
            return 416, {"Content-Range": f"bytes */{len(data)}"}, b""
        return 206, headers | {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:]

    def _send(self, step: Step, body: bytes) -> None:
        most = min(len(body), *(end for end in (step.drop, step.stall) if end is not None), 1 << 40)
        for start in range(0, most, step.piece):
            block = body[start : min(start + step.piece, most)]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block) if step.chunked else block)
            if step.pause and self.server.closing.wait(step.pause):
                return
        if step.stall is not None:
            self.server.closing.wait(30)
        elif step.chunked and step.drop is None:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: stderr is what the tests look at."""
