"""Child processes of makers, as this process sees them."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from e2eio.direct.child import SIZE
from e2eio.errors import ImporterError
from e2eio.remote import credentials_included

if TYPE_CHECKING:
    from e2eio.direct.child import Request

__all__ = ["Child", "ask_once"]

_END_S: Final = 2.0
_PROGRAM: Final = (
    "import sys; sys.path[:] = {path!r}; from e2eio.direct.child import serve; serve()"
)


class Child:
    """A process that answers one request at a time; begun with the first.

    It is a fresh interpreter, so that parsers may crash and hold their locks there, and in a session of its own, so
    that Ctrl-C does not reach it. It ends when its input ends, which is so when this process is gone, however.

    Thread rule: ask() by one thread; stop() by any.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of the input, which stop() closes
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def ask(self, request: Request) -> Any:
        """Return the reply, or raise it if it is an error.

        Raises
        ------
        ImporterError
            The process died.
        """
        try:
            with credentials_included():  # the process is ours
                data = pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL)
            self._send(data)
            reply = self._receive()
        except (OSError, EOFError):
            raise self._death(request) from None
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _send(self, data: bytes) -> None:
        with self._lock:
            if self._stopped:
                raise EOFError
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _PROGRAM.format(path=sys.path)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,
                )
            stream = self._process.stdin
            assert stream is not None
            stream.write(SIZE.pack(len(data)) + data)
            stream.flush()

    def _receive(self) -> object:
        assert self._process is not None
        assert self._process.stdout is not None
        stream = self._process.stdout
        size = stream.read(SIZE.size)
        if len(size) < SIZE.size:
            raise EOFError
        n_bytes = SIZE.unpack(size)[0]
        data = stream.read(n_bytes)
        if len(data) < n_bytes:
            raise EOFError
        return pickle.loads(data)

    def _death(self, request: Request) -> ImporterError:
        code = self._ended()
        if code is None:
            found = "that it stopped"
        elif code < 0:
            found = signal.strsignal(-code) or f"signal {-code}"
        else:
            found = f"exit code {code}"
        path = getattr(getattr(request, "task", None), "path", None)
        return ImporterError(
            f"reading process died: {request.about()}: found {found}, expected samples; the file may be "
            "damaged, or memory short: try 'e2eio convert' on it",
            path,
        )

    def _ended(self) -> int | None:
        """Reap the process, and forget it; its exit code."""
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return None
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):  # what was not sent cannot be any more
                    stream.close()
        try:
            return process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def stop(self) -> None:
        """Have the process give up what it does; ask() raises then. Does not wait."""
        with self._lock:
            self._stopped = True
            if self._process is not None and self._process.stdin is not None:
                with suppress(OSError):
                    self._process.stdin.close()

    def close(self) -> None:
        """End the process, and wait for it."""
        self.stop()
        self._ended()


def ask_once(request: Request) -> Any:
    """Return the reply of a process that is begun for this request, and ended after it."""
    child = Child()
    try:
        return child.ask(request)
    finally:
        child.close()
