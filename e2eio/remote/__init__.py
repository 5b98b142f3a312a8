"""Files on servers: http, S3 and all else that fsspec reads (docs/remote.md).

Names of URLs are here; `opening` and `stream` open them, and are imported when there is one.
"""

from __future__ import annotations

from e2eio.remote.urls import (
    KnownUrls,
    RemoteUrl,
    StorageOptions,
    credentials_included,
    is_url,
    public_url,
    refuse_remote_target,
)

__all__ = [
    "KnownUrls",
    "RemoteUrl",
    "StorageOptions",
    "credentials_included",
    "is_url",
    "public_url",
    "refuse_remote_target",
]
