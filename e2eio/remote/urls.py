"""URLs, and what of them may be shown: credentials stay out of messages, pickles and files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import urlsplit

from e2eio.errors import ConfigError

__all__ = [
    "KnownUrls",
    "RemoteUrl",
    "StorageOptions",
    "credentials_included",
    "is_url",
    "public_url",
    "refuse_remote_target",
]

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]+://")

# Names of storage options that are, or may hold, credentials.
_SECRET: Final = re.compile(
    r"key|secret|token|pass|auth|cred|cookie|header|sas|user", re.IGNORECASE
)


def is_url(path: object) -> bool:
    r"""Return whether a path is a URL; ``C:\data`` and ``a:b`` are none.

    Examples
    --------
    >>> is_url("s3://bucket/top"), is_url("data/top")
    (True, False)
    """
    return isinstance(path, str | os.PathLike) and _SCHEME.match(str(os.fspath(path))) is not None


def public_url(path: str) -> str:
    """Return a URL without user, password, query and fragment; any other path as it is.

    Examples
    --------
    >>> public_url("https://me:word@host/top/a.e2e?X-Amz-Signature=12")
    'https://host/top/a.e2e'
    """
    if not is_url(path):
        return path
    parts = urlsplit(path)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


_included: ContextVar[bool] = ContextVar("credentials are pickled", default=False)


@contextmanager
def credentials_included() -> Iterator[None]:
    """Have credentials pickled within the block: for a process that this one has started, and no file."""
    token = _included.set(True)
    try:
        yield
    finally:
        _included.reset(token)


def _spawning() -> bool:
    """Return whether a process is being started, or was, which is what is pickled for."""
    if _included.get():
        return True
    from multiprocessing.context import get_spawning_popen

    return get_spawning_popen() is not None


class RemoteUrl(str):
    """A URL that shows what may be shown of it, and knows the whole.

    Its text is :func:`public_url` of it, wherever it is printed, compared or written. Pickles hold no more
    than that, but for those by which this process starts another one. Thread rule: immutable.

    Attributes
    ----------
    whole : str
        With credentials.
    """

    __slots__ = ("whole",)
    whole: str

    def __new__(cls, path: str | os.PathLike[str], whole: str | None = None) -> RemoteUrl:
        """Take a URL, `whole` if that differs from what is shown."""
        if isinstance(path, RemoteUrl) and whole is None:
            return path
        text = os.fspath(path) if whole is None else whole
        if "::" in text:
            raise ConfigError(
                f"chained URL: found {public_url(text)!r}; expected one with one protocol, as https://host/top"
            )
        self = super().__new__(cls, public_url(text))
        if text == self:
            text = _known.get(text, text)
        else:
            _known[str(self)] = text
        self.whole = text
        return self

    @property
    def protocol(self) -> str:
        """What stands before ``://``."""
        return self.partition("://")[0].lower()

    def child(self, name: str) -> RemoteUrl:
        """Return the URL of a file in this directory, with the same credentials."""
        parts = urlsplit(self.whole)
        query = f"?{parts.query}" if parts.query else ""
        return RemoteUrl(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/{name}{query}")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return urlsplit(self).path.rstrip("/").rpartition("/")[2]

    def __reduce__(self) -> tuple[Any, ...]:
        return (RemoteUrl, (self.whole if _spawning() else str(self),))


_known: dict[str, str] = {}  # URLs with credentials, by what is shown of them


class KnownUrls:
    """The credentials in URLs that this process knows, for a process that it starts: an argument of that.

    What is pickled later for it (tasks of a pool, as a rule) holds none.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return (_learn, (dict(_known) if _spawning() else {},))


def _learn(known: dict[str, str]) -> KnownUrls:
    _known.update(known)
    return KnownUrls()


class StorageOptions(dict[str, Any]):
    """What fsspec's file system is made with; pickled without credentials, as :class:`RemoteUrl` is.

    Examples
    --------
    >>> StorageOptions({"anon": False, "secret": "word"})
    StorageOptions({'anon': False, 'secret': '...'})
    """

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(options or {})

    def __repr__(self) -> str:
        shown = {key: "..." if _SECRET.search(key) else value for key, value in self.items()}
        return f"StorageOptions({shown})"

    __str__ = __repr__

    def __reduce__(self) -> tuple[Any, ...]:
        return (StorageOptions, (dict(self) if _spawning() else _without_secrets(self),))


def _without_secrets(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_secrets(value) if isinstance(value, Mapping) else value
        for key, value in options.items()
        if not _SECRET.search(key)
    }


def refuse_remote_target(path: str | os.PathLike[str]) -> None:
    """Raise ConfigError for a URL, where only a local directory can be written into."""
    if is_url(path):
        name = public_url(os.fspath(path))
        raise ConfigError(
            f"remote target: found {name!r}; expected a local directory: write there, then copy it with the "
            "tool of the server, dataset.json last (docs/remote.md)"
        )
