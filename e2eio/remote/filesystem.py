"""The one door to fsspec: its file systems, as range readers in an event loop."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from e2eio.errors import ConfigError, MissingDependencyError
from e2eio.remote.http import HttpFiles
from e2eio.remote.limits import Limits
from e2eio.remote.ranges import AsyncFiles, RangeReader, ThreadedFiles
from e2eio.remote.s3 import S3Files
from e2eio.remote.urls import RemoteUrl, StorageOptions
from e2eio.remote.xrootd import XRootDFiles

try:
    import fsspec
except ImportError as error:  # pragma: no cover - exercised without the extra
    raise MissingDependencyError(
        "package fsspec is missing: it reads URLs; run pip install 'e2eio[remote]'"
    ) from error

__all__ = ["make_reader"]

_BY_PROTOCOL = {"http": HttpFiles, "https": HttpFiles, "s3": S3Files, "s3a": S3Files}


def make_reader(
    url: RemoteUrl, options: StorageOptions, loop: asyncio.AbstractEventLoop
) -> RangeReader:
    """Return what reads the files of that URL's server. Not to be called in the loop's thread.

    Raises
    ------
    ConfigError
        There is no such protocol, or an option is wrong.
    MissingDependencyError
        The package that speaks the protocol is missing.
    """
    protocol = url.protocol
    try:
        kind = fsspec.get_filesystem_class(protocol)
    except ValueError:
        raise ConfigError(
            f"unknown protocol: {url}: found {protocol!r}; expected one that fsspec knows, "
            "as https, s3, gs, root, file, memory"
        ) from None
    except ImportError as error:
        raise MissingDependencyError(
            f"a package is missing: it reads {protocol}:// for fsspec ({error}); "
            "run pip install 'e2eio[remote]'"
        ) from error
    given: dict[str, Any] = {**kind._get_kwargs_from_urls(url.whole), **options}
    given["skip_instance_cache"] = True  # instances that are shared would be shared among loops
    if protocol == "root":
        given.setdefault("timeout", math.ceil(Limits.from_environment().timeout))
        return XRootDFiles(_made(kind, url, given))
    if protocol in ("gs", "gcs"):
        from e2eio.remote.gcs import GcsFiles, open_gcs

        return GcsFiles(open_gcs({**given, "asynchronous": True, "loop": loop}))
    if not kind.async_impl:
        return ThreadedFiles(_made(kind, url, given))
    given |= {"asynchronous": True, "loop": loop}
    if protocol in ("s3", "s3a"):  # tries are counted here
        given["config_kwargs"] = {"retries": {"max_attempts": 1}, **given.get("config_kwargs", {})}
    return _BY_PROTOCOL.get(protocol, AsyncFiles)(_made(kind, url, given))


def _made(kind: Any, url: RemoteUrl, options: dict[str, Any]) -> Any:
    try:
        return kind(**options)
    except TypeError as error:
        raise ConfigError(
            f"wrong storage_options for {url}: {error}; see fsspec's documentation of {kind.__name__}"
        ) from None
