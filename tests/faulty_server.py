"""An HTTP server on localhost that serves a directory, counts its requests, and misbehaves on demand."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

__all__ = ["FAULTS", "FaultyServer"]

#: What a server may do to a request instead of answering it.
FAULTS = ("drop", "refuse", "short", "long", "500", "503", "429", "stall", "wrong-range")


class FaultyServer:
    """Serves `directory` at `url`.

    Attributes
    ----------
    requests : list of (path, begin, end)
        That came, in order; (-n, None) for the last n bytes, (None, None) for a whole file.
    fault : callable
        Of the number of the request and its path: one of FAULTS, another status, "whole" (ignores the range), or
        None: a good answer.
    upstream : str
        URL of a server whose answers are passed on; empty: the directory's files are sent.
    most_at_once : int
        Requests that were under way side by side.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.upstream = ""
        self.most_at_once = 0
        self._n_under_way = 0
        self.requests: list[tuple[str, int | None, int | None]] = []
        self.queries: list[str] = []
        self.authorizations: list[str | None] = []
        self.fault: Callable[[int, str], str | None] = lambda number, path: None
        self.released = threading.Event()  # ends stalls
        self.stalled = threading.Event()
        self.listing = True
        self.answers: dict[str, Callable[[], bytes]] = {}
        self._lock = threading.Lock()
        owner = self

        class Handler(_Handler):
            server_of = owner

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> FaultyServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def note(self, path: str, begin: int | None, end: int | None) -> int:
        with self._lock:
            self.requests.append((path, begin, end))
            return len(self.requests)

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        with self._lock:
            self._n_under_way += 1
            self.most_at_once = max(self.most_at_once, self._n_under_way)
        try:
            yield
        finally:
            with self._lock:
                self._n_under_way -= 1

    def first_time(self, *faults: str) -> Callable[[int, str], str | None]:
        """Return a `fault` that meets each range once, whoever asks in what order: the next try succeeds."""
        seen: set[tuple[str, int | None, int | None]] = set()

        def fault(number: int, path: str) -> str | None:
            key = self.requests[number - 1]
            with self._lock:
                if key in seen:
                    return None
                seen.add(key)
                return faults[len(seen) % len(faults)]

        return fault

    def n_requests(self, suffix: str = ".e2e") -> int:
        return sum(path.endswith(suffix) for path, _, _ in self.requests)

    def clear(self) -> None:
        self.requests.clear()
        self.fault = lambda number, path: None


class _Handler(BaseHTTPRequestHandler):
    server_of: FaultyServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):  # the client has gone
            super().handle()

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        with self.server_of.under_way():
            self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        owner = self.server_of
        parts = urlsplit(self.path)
        owner.queries.append(parts.query)
        owner.authorizations.append(self.headers.get("Authorization"))
        begin, end = self._range()
        fault = owner.fault(owner.note(parts.path, begin, end), parts.path)
        if fault == "stall":
            owner.stalled.set()
            owner.released.wait(60)
            self.close_connection = True
            return
        if fault == "refuse":
            self.close_connection = True
            return
        if fault is not None and fault.isdecimal():
            self._plain(int(fault), b"no")
            return
        if owner.upstream:
            self._pass_on(fault)
            return
        if parts.path in owner.answers:
            self._plain(200, owner.answers[parts.path]())
            return
        path = owner.directory / parts.path.lstrip("/")
        if path.is_dir() and owner.listing:
            names = "".join(f'<a href="{each.name}">x</a>' for each in sorted(path.iterdir()))
            self._plain(200, names.encode())
            return
        if not path.is_file():
            self._plain(404, b"none")
            return
        content = path.read_bytes()
        self._send(content, begin, end, fault, body=body)

    def _range(self) -> tuple[int | None, int | None]:
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if found is None:
            return None, None
        if not found[1]:
            return -int(found[2]), None
        return int(found[1]), int(found[2]) + 1 if found[2] else None

    def _pass_on(self, fault: str | None) -> None:
        """Answer what the other server does."""
        asked = {name: self.headers[name] for name in ("Range",) if name in self.headers}
        request = urllib.request.Request(self.server_of.upstream + self.path, headers=asked)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, headers, data = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            status, headers, data = error.code, error.headers, error.read()
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() in ("content-type", "content-range", "etag"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if fault == "drop":
            data = data[: len(data) // 2]
            self.close_connection = True
        self.wfile.write(data)

    def _plain(self, status: int, content: bytes) -> None:
        self.send_response(status)
        if status in (429, 503):
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _send(
        self, content: bytes, begin: int | None, end: int | None, fault: str | None, *, body: bool
    ) -> None:
        status, first, data = 200, 0, content
        if begin is not None and fault != "whole":
            status = 206
            first = max(0, len(content) + begin) if begin < 0 else begin
            data = content[first : len(content) if end is None else end]
        if status == 206 and not data:
            self._plain(416, b"")
            return
        self.send_response(status)
        self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
        shift = 1 if fault == "wrong-range" else 0
        if status == 206:
            last = first + len(data) - 1
            self.send_header("Content-Range", f"bytes {first + shift}-{last}/{len(content)}")
        if fault == "short":
            data = data[:-1]
        if fault == "long":
            data = data + b"x"
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not body:
            return
        if fault == "drop":
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.close_connection = True
            return
        self.wfile.write(data)
