"""Opening of the files that importers read, and errors of the system in this package's words."""

from __future__ import annotations

import hashlib
import os
from typing import BinaryIO, Final, cast

from e2eio.errors import E2eioError, ImporterError, ShardIOError, ShardNotFoundError
from e2eio.remote import RemoteUrl, is_url

__all__ = ["describe_file", "first_bytes", "open_binary", "system_error"]

_END_BYTES: Final = 1 << 16


def open_binary(path: str) -> BinaryIO:
    """Open a file, or the URL of one, for reading; the stream can seek.

    Raises
    ------
    ShardNotFoundError, ShardIOError
        The file is missing, or the system refused.
    ImporterError
        It is a directory, or the name is none.
    """
    if is_url(path):
        from e2eio.remote.stream import open_stream  # brings in asyncio

        return cast("BinaryIO", open_stream(RemoteUrl(path)))
    try:
        return open(path, "rb")  # noqa: PTH123 - the name is reported as given
    except OSError as error:
        raise system_error(path, error) from error
    except ValueError as error:  # a NUL in the name
        raise ImporterError(
            f"no path: {path!r}: found {error}, expected the name of a file; check the path", path
        ) from error


def first_bytes(path: str, n_bytes: int) -> bytes:
    """Return the first bytes of a file, fewer if it has fewer; errors as those of `open_binary`."""
    with open_binary(path) as stream:
        try:
            return stream.read(n_bytes)
        except OSError as error:
            raise system_error(path, error) from error


def describe_file(path: str) -> tuple[int, bytes, bytes]:
    """Return a file's size, its first bytes (64 kB), and a digest of its size, begin and end."""
    try:
        with open_binary(path) as stream:
            head = stream.read(_END_BYTES)
            n_bytes = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, n_bytes - _END_BYTES))
            end = stream.read()
    except OSError as error:
        raise system_error(path, error) from error
    digest = hashlib.blake2b(n_bytes.to_bytes(8, "little") + head + end, digest_size=16)
    return n_bytes, head, digest.digest()


def system_error(path: str, error: OSError) -> E2eioError:
    """Return this package's error for one of the system's."""
    if isinstance(error, E2eioError):
        return error
    if isinstance(error, IsADirectoryError):
        return ImporterError(
            f"no file: {path}: found a directory, expected a file of images; name the files in it",
            path,
        )
    if isinstance(error, FileNotFoundError):
        return ShardNotFoundError(
            f"no such file: {path}: expected a file of images; check the path",
            path,
            errno=error.errno,
        )
    reason = os.strerror(error.errno) if error.errno is not None else str(error)
    return ShardIOError(f"cannot read: {path}: {reason.lower()}", path, errno=error.errno)
