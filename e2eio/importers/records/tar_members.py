"""Members of a tar file one after the other, in bounded memory, nothing written anywhere.

`tarfile.TarInfo` decodes headers; going from one to the next is done here, as `tarfile` takes a
damaged header in the middle for the end of the archive, which would lose samples silently.
"""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Final, NamedTuple

from e2eio.errors import ImporterError

if TYPE_CHECKING:
    from e2eio.importers.streams import Stream

__all__ = ["Member", "MemberReader"]

_BLOCK: Final = tarfile.BLOCKSIZE
_ZERO: Final = bytes(_BLOCK)
_MAX_NAME_BYTES: Final = 1 << 16  # of a pax header or a long name
_FILES: Final = (tarfile.REGTYPE, tarfile.AREGTYPE)
_LINKS: Final = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_PAX: Final = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


class Member(NamedTuple):
    """A file in the archive.

    Parameters
    ----------
    name : str
        A text and nothing else: no file of this name is touched.
    n_bytes : int
    offset_bytes : int
        Of its first header.
    """

    name: str
    n_bytes: int
    offset_bytes: int


class MemberReader:
    """Goes from file to file; one thread at a time.

    Parameters
    ----------
    path : str
        For messages.
    stream : Stream
    offset_bytes : int
        Where the stream stands: at a header.
    """

    def __init__(self, path: str, stream: Stream, offset_bytes: int = 0) -> None:
        self._path, self._stream = path, stream
        self._at = offset_bytes
        self._left = 0  # of the member, padding included

    def next_file(self) -> Member | None:
        """Return the next file, or None at the end; what was not read of the last one is passed over.

        Raises
        ------
        ImporterError
            The archive is truncated or damaged, or has links, sparse files or devices.
        """
        self._pass_over(self._left)
        begin = self._at
        extended: dict[str, str] = {}
        while True:
            header = self._header()
            if header is None:
                return None
            if header.type in _PAX:
                records = self._pax(header)
                extended.update(records if header.type != tarfile.XGLTYPE else {})
            elif header.type == tarfile.GNUTYPE_LONGNAME:
                name = self._take(header).rstrip(b"\0")
                extended["path"] = name.decode("utf-8", "surrogateescape")
            elif header.type == tarfile.DIRTYPE:
                begin, extended = self._at, {}
            elif header.type in _FILES and not any(k.startswith("GNU.sparse") for k in extended):
                return self._file(header, extended, begin)
            else:
                what = "a link" if header.type in _LINKS else f"a member of type {header.type!r}"
                raise self._error("not a plain file in", f"{what}, {header.name!r}", "plain files")

    def read(self, member: Member) -> bytes:
        """Return the content of the file that `next_file` has just returned."""
        data = self._stream.read(member.n_bytes)
        if len(data) < member.n_bytes:
            raise self._truncated(len(data), member.n_bytes)
        self._at += len(data)
        self._left -= len(data)
        return data

    def _file(self, header: tarfile.TarInfo, extended: dict[str, str], begin: int) -> Member:
        size = extended.get("size", str(header.size))
        if not size.isdecimal() or len(size) > 18:
            raise self._error("damaged", f"a size of {size!r}", "a number of bytes")
        n_bytes = int(size)
        self._left = n_bytes + -n_bytes % _BLOCK
        return Member(extended.get("path", header.name), n_bytes, begin)

    def _header(self) -> tarfile.TarInfo | None:
        block = self._stream.read(_BLOCK)
        if len(block) < _BLOCK:
            raise self._error("truncated", f"{len(block)} bytes", "a header or the end mark")
        if block == _ZERO:
            self._check_end()
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise self._error("damaged header in", repr(str(error)), "a valid one") from error
        if header.size < 0:
            raise self._error("damaged header in", f"a size of {header.size}", "0 or more")
        self._at += _BLOCK
        return header

    def _check_end(self) -> None:
        """Nothing but zeros may follow the first block of zeros, and one block of them at least."""
        n_zero = _BLOCK
        while block := self._stream.read(_BLOCK):
            if block.strip(b"\0"):
                raise self._error(
                    "bytes after the end of", "more than zeros", "the end of the file"
                )
            n_zero += len(block)
        if n_zero < 2 * _BLOCK:
            raise self._error("truncated", "one block of zeros at the end", "two")

    def _take(self, header: tarfile.TarInfo) -> bytes:
        """Return the content of a member that says more of the next one."""
        if header.size > _MAX_NAME_BYTES:
            raise self._error(
                "damaged", f"a header of {header.size} bytes", f"at most {_MAX_NAME_BYTES}"
            )
        padded = header.size + -header.size % _BLOCK
        data = self._stream.read(padded)
        if len(data) < padded:
            raise self._truncated(len(data), padded)
        self._at += padded
        return data[: header.size]

    def _pax(self, header: tarfile.TarInfo) -> dict[str, str]:
        """Return the records ``length key=value`` of an extended header (POSIX.1-2001, pax)."""
        records: dict[str, str] = {}
        data = self._take(header)
        while data:
            digits, space, _ = data[:12].partition(b" ")
            n_bytes = int(digits) if space and digits.isdigit() else 0
            record = data[len(digits) + 1 : n_bytes]
            key, equals, value = record.partition(b"=")
            if not equals or n_bytes > len(data) or not value.endswith(b"\n"):
                raise self._error("damaged", f"{data[:24]!r} in an extended header", "a record")
            records[key.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "surrogateescape")
            data = data[n_bytes:]
        return records

    def _pass_over(self, n_bytes: int) -> None:
        passed = self._stream.skip(n_bytes)
        if passed < n_bytes:
            raise self._truncated(passed, n_bytes)
        self._at += n_bytes
        self._left = 0

    def _truncated(self, found: int, expected: int) -> ImporterError:
        return self._error("truncated", f"{found} bytes of a member", f"{expected}")

    def _error(self, what: str, found: str, expected: str) -> ImporterError:
        return ImporterError(
            f"{what} tar file: {self._path} at byte {self._at}: found {found}, expected {expected}; "
            "fetch or write the file again",
            self._path,
            offset_bytes=self._at,
        )
