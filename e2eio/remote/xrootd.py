"""Ranges of files of XRootD servers."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import Final, TypeVar

from e2eio.remote.ranges import FileState, ThreadedFiles, state_of
from e2eio.remote.urls import RemoteUrl

__all__ = ["XRootDFiles"]

T = TypeVar("T")

#: Codes of servers' answers, as "The XRootD Protocol" (5.2) has them: kXR_NotAuthorized, kXR_NotFound, kXR_isDirectory.
_ERRNO: Final = {3010: errno.EACCES, 3011: errno.ENOENT, 3016: errno.EISDIR}


class XRootDFiles(ThreadedFiles):
    """Files of a server, by the blocking functions of fsspec-xrootd: it cannot be made for a loop of ours."""

    async def _run(self, call: Callable[[], T]) -> T:
        return await super()._run(lambda: _answered(call))

    def _info(self, url: RemoteUrl) -> FileState:
        path = self._fs._strip_protocol(url.whole)
        # Of this file alone: all would close the files that other threads are reading.
        self._fs.invalidate_cache(path)
        return state_of(self._fs.info(path))


def _answered(call: Callable[[], T]) -> T:
    """Call; give what servers refuse, which comes as text, the number of its error."""
    try:
        return call()
    except OSError as error:
        code = re.search(r"\[(\d{4})\]", str(error))
        number = _ERRNO.get(int(code[1])) if code and error.errno is None else None
        if number is None:
            raise
        raise OSError(number, str(error)) from error
