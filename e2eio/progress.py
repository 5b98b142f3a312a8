"""How far a long operation has come: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichBar

__all__ = ["Progress", "make_progress"]

_INTERVAL_S: Final = 5.0


class Progress(Protocol):
    """Shows how many of `total` jets are done."""

    def start(self, total: int, done: int = 0) -> None:
        """Begin; `done` jets need no work and do not count for the rate."""

    def update(self, done: int) -> None:
        """Set the number of jets done."""

    def note(self, text: str) -> None:
        """Show one line that stays."""

    def close(self) -> None:
        """End, whether complete or not; may be called again."""

    def __enter__(self) -> Progress: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class _Silent:
    """Shows nothing; the base of those that do."""

    def start(self, total: int, done: int = 0) -> None:
        pass

    def update(self, done: int) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Lines(_Silent):
    """Plain lines, for logs and pipes."""

    def __init__(self, verb: str, stream: TextIO, interval_s: float) -> None:
        self._verb = verb
        self._stream = stream
        self._interval_s = interval_s
        self._total = self._first = self._done = 0
        self._begin_s = self._shown_s = time.monotonic()
        self._running = False

    def start(self, total: int, done: int = 0) -> None:
        self._total, self._first, self._done = total, done, done
        self._begin_s = self._shown_s = time.monotonic()
        self._running = True

    def update(self, done: int) -> None:
        self._done = done
        if self._running and time.monotonic() - self._shown_s >= self._interval_s:
            self._show()

    def note(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def close(self) -> None:
        if self._running:
            self._running = False
            if self._done >= self._total > 0:  # else an error tells more
                self._show()

    def _show(self) -> None:
        now_s = time.monotonic()
        self._shown_s = now_s
        elapsed_s = max(now_s - self._begin_s, 1e-9)
        rate = (self._done - self._first) / elapsed_s
        share = 100 * self._done // self._total if self._total else 100
        time_text = f", in {elapsed_s:.1f} s"
        if self._running:
            time_text = f", {(self._total - self._done) / rate:.0f} s left" if rate else ""
        self.note(
            f"{self._verb} {self._done} of {self._total} jets ({share} %), "
            f"{rate:.0f} jets/s{time_text}"
        )


class _Bar(_Silent):
    """A bar with jets/s and the time left, on a terminal."""

    def __init__(self, bar: RichBar, verb: str) -> None:
        self._bar = bar
        self._task = bar.add_task(verb, total=None, rate="", start=False)
        self._first = 0
        self._begin_s = time.monotonic()

    def start(self, total: int, done: int = 0) -> None:
        self._first = done
        self._begin_s = time.monotonic()
        self._bar.start()
        self._bar.start_task(self._task)
        self._bar.update(self._task, total=total, completed=done)

    def update(self, done: int) -> None:
        rate = (done - self._first) / max(time.monotonic() - self._begin_s, 1e-9)
        self._bar.update(self._task, completed=done, rate=f"{rate:.0f} jets/s")

    def note(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._bar.stop()


def _make_bar(verb: str, stream: TextIO) -> _Bar | None:
    try:
        from rich import progress as rich_progress
        from rich.console import Console
    except ImportError:
        return None
    bar = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TextColumn("{task.fields[rate]}"),
        rich_progress.TimeRemainingColumn(),
        console=Console(file=stream),
    )
    return _Bar(bar, verb)


def make_progress(
    enabled: bool,
    *,
    verb: str = "converted",
    stream: TextIO | None = None,
    interval_s: float = _INTERVAL_S,
) -> Progress:
    """Return what suits the stream: a bar, plain lines, or nothing.

    Parameters
    ----------
    enabled : bool
        False: show nothing at all.
    verb : str
        What has been done to the jets.
    stream : text stream, optional
        Standard error if not given.
    interval_s : float
        Between two plain lines.

    Examples
    --------
    >>> with make_progress(False) as progress:
    ...     progress.start(100)
    ...     progress.update(40)
    """
    if not enabled:
        return _Silent()
    target = sys.stderr if stream is None else stream
    bar = _make_bar(verb, target) if target.isatty() else None
    return _Lines(verb, target, interval_s) if bar is None else bar
