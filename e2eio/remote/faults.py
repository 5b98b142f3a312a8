"""What goes wrong between here and a server, and whether trying again may help."""

from __future__ import annotations

import asyncio
import errno
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from e2eio.errors import E2eioError, ImporterError, ShardIOError, ShardNotFoundError
from e2eio.remote.limits import Limits
from e2eio.remote.urls import RemoteUrl

__all__ = ["Fault", "changed_fault", "denied_fault", "described", "fault_of", "status_fault"]
__all__ += ["try_often"]

_MAX_PAUSE_S: Final = 10.0
_PASSING_ERRNO: Final = {
    *(errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ETIMEDOUT, errno.ECONNRESET, errno.EPIPE),
    *(errno.ECONNREFUSED, errno.ECONNABORTED, errno.EHOSTUNREACH, errno.ENETUNREACH),
}
_CLIENTS: Final = {
    "aiohttp",
    "botocore",
    "aiobotocore",
    "urllib3",
    "requests",
    "gcsfs",
    "fsspec",
    "google",
}
_DENIED_NAMES: Final = ("Credential", "NoAuthToken", "RefreshError", "NonRetryable")
_FINAL_NAMES: Final = ("Certificate", "InvalidURL", "NoRegion", "ParamValidation")

T = TypeVar("T")


class Fault(Exception):  # noqa: N818 - it is none until all tries have met one
    """A request that failed.

    Parameters
    ----------
    reason : str
        What the server or the network did.
    passing : bool
        Another try may succeed.
    remedy : str
        What to do.
    errno : int
        0: none fits.
    changed : bool
        The file is not the one that was opened.
    after_s : float
        Seconds before which the server wants no other try.
    """

    def __init__(
        self,
        reason: str,
        *,
        passing: bool,
        remedy: str = "check the network and the server, and try again",
        errno: int = 0,
        changed: bool = False,
        after_s: float = 0.0,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.passing = passing
        self.remedy = remedy
        self.errno = errno
        self.changed = changed
        self.after_s = after_s
        self.n_tries = 1
        self.what = "read"

    def text(self, url: str) -> str:
        """Return the message of the error."""
        tries = "" if self.n_tries == 1 else f", {self.n_tries} tries"
        if self.changed:
            return f"file changed: {url}: {self.reason}; {self.remedy}"
        return f"cannot {self.what}: {url}: {self.reason}{tries}; {self.remedy}"

    def error(self, url: str) -> E2eioError:
        """Return this package's error for a file that is not a shard."""
        if self.changed:
            return ImporterError(self.text(url), url)
        kind = ShardNotFoundError if self.errno == errno.ENOENT else ShardIOError
        return kind(self.text(url), url, errno=self.errno or errno.EIO)


def status_fault(status: int, words: str, retry_after: str | None = None) -> Fault:
    """Return the fault of an HTTP status that is no success."""
    said = f"the server answered {status} {words}".rstrip()
    if status in (401, 403, 407):
        return denied_fault(said)
    if status in (404, 410):
        return Fault(said, passing=False, errno=errno.ENOENT, remedy="check the URL")
    if status == 412:
        return changed_fault(said)
    if status == 416:
        return changed_fault(f"{said}: it is shorter than it was")
    passing = status >= 500 or status in (408, 425, 429)
    after = float(retry_after) if retry_after is not None and retry_after.isdecimal() else 0.0
    return Fault(said, passing=passing, errno=errno.EIO, after_s=after)


def denied_fault(reason: str) -> Fault:
    """Return the fault of credentials that are missing, or that a server does not take."""
    return Fault(
        reason,
        passing=False,
        errno=errno.EACCES,
        remedy="give credentials (docs/remote.md); those in URLs and storage_options are not pickled",
    )


def changed_fault(reason: str) -> Fault:
    """Return the fault of a file that was replaced since it was opened."""
    return Fault(reason, passing=False, changed=True, remedy="open it again, when it is complete")


def fault_of(error: BaseException) -> Fault:
    """Return the fault behind an exception of a client; programming errors come back as faults that do not pass."""
    if isinstance(error, Fault):
        return error
    status = _status_of(error)
    if status is not None and status >= 400:
        return status_fault(status, "")
    if isinstance(error, FileNotFoundError):
        return Fault(
            "there is no such file", passing=False, errno=errno.ENOENT, remedy="check the URL"
        )
    if isinstance(error, PermissionError):
        return status_fault(403, "")
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return Fault("no answer in time", passing=True, errno=errno.ETIMEDOUT)
    name, module = type(error).__name__, type(error).__module__.partition(".")[0]
    if any(word in name for word in _DENIED_NAMES):
        return denied_fault(name)
    number = error.errno if isinstance(error, OSError) and error.errno else 0
    known = module in _CLIENTS or isinstance(error, ConnectionError | EOFError)
    passing = (
        known or number in _PASSING_ERRNO or (isinstance(error, OSError) and not number)
    ) and not any(word in name for word in _FINAL_NAMES)
    # The text of a client's error may quote the URL with its credentials; the class and the errno do not.
    words = f" ({errno.errorcode[number]})" if number in errno.errorcode else ""
    return Fault(f"{name}{words}", passing=passing, errno=number or errno.EIO)


def _status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an error of aiohttp, botocore or gcsfs carries."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status
    if type(error).__module__.startswith("gcsfs"):
        code = getattr(error, "code", None)
        return code if isinstance(code, int) else None
    for each in (error, error.__cause__):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return status if isinstance(status, int) else None
    return None


async def try_often(
    attempt: Callable[[], Awaitable[T]], limits: Limits, *, what: str = "read"
) -> tuple[T, int]:
    """Return what an attempt returns, and how many failed before.

    Raises
    ------
    Fault
        The last attempt's, or the first that cannot pass.
    """
    end = time.monotonic() + limits.deadline
    for n_tries in range(1, limits.tries + 1):
        try:
            left = max(0.001, end - time.monotonic())
            return await asyncio.wait_for(attempt(), min(limits.timeout, left)), n_tries - 1
        except (asyncio.CancelledError, E2eioError):
            raise
        except Exception as error:
            fault = fault_of(error)
            fault.n_tries, fault.what = n_tries, what
            pause = min(_MAX_PAUSE_S, limits.backoff * 2 ** (n_tries - 1)) * random.uniform(
                0.5, 1.5
            )
            pause = max(pause, min(fault.after_s, _MAX_PAUSE_S))
            if not fault.passing or n_tries == limits.tries or time.monotonic() + pause > end:
                try:
                    raise fault from error
                finally:
                    del fault  # it holds this frame, and its callers' with what they opened
        await asyncio.sleep(pause)
    raise AssertionError("tries is at least 1")


def described(url: RemoteUrl, fault: Fault) -> tuple[str, str, str, int]:
    """Return kind, message, path and errno of a fault, as the core's errors are made."""
    kind = "corrupt" if fault.changed else "io"
    return kind, fault.text(url), str(url), fault.errno or errno.EIO
