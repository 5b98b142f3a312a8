"""What the members of a WebDataset sample hold: arrays and numbers by name. Pickles are not read."""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from e2eio.errors import ImporterError
from e2eio.importers.npy_array import decode_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PICKLES", "MemberName", "decode_member", "parse_name"]

#: Kinds of members that are pickles: they may run any program when they are read.
PICKLES: Final = frozenset({"pth", "pt", "pkl", "pickle", "pyd"})

_DECODED: Final = frozenset({"npy", "npz", "json", "cls"})
_MAX_TEXT_BYTES: Final = 1 << 20
# As the webdataset package has it: the sample's key ends at the first dot of the last part.
_NAME: Final = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
_META: Final = re.compile(r"__[^/]*__($|/)")


class MemberName(NamedTuple):
    """The parts of ``jets/000017.X_jets.npy``: the key, "X_jets" and "npy"."""

    key: str
    stem: str
    kind: str

    @property
    def suffix(self) -> str:
        """What the members of a sample differ in."""
        return f"{self.stem}.{self.kind}" if self.stem else self.kind

    @property
    def is_decoded(self) -> bool:
        """Whether `decode_member` knows the kind."""
        return self.kind in _DECODED


def parse_name(name: str) -> MemberName | None:
    """Return the parts of a member's name, or None if it belongs to no sample."""
    found = _NAME.fullmatch(name)
    if found is None or _META.match(name):
        return None
    stem, _, kind = found.group(2).rpartition(".")
    return MemberName(found.group(1), stem, kind.lower())


def decode_member(
    name: MemberName, data: bytes, where: str, path: str, max_bytes: int
) -> dict[str, NDArray[Any]]:
    """Return the arrays of a member by name; a number is an array of no axes.

    Parameters
    ----------
    name : MemberName
    data : bytes
    where, path : str
        Member and file, for messages.
    max_bytes : int
        Of all arrays of an npz member together, inflated.

    Raises
    ------
    ImporterError
        The member is damaged, too large, or holds a pickle.
    """
    if name.kind == "npy":
        return {name.stem or "image": decode_array(data, where, path)}
    if name.kind == "npz":
        return _decode_npz(data, where, path, max_bytes)
    if len(data) > _MAX_TEXT_BYTES:
        raise _error("too large a member", where, path, f"{len(data)} bytes", _MAX_TEXT_BYTES)
    if name.kind == "json":
        return _decode_json(name, data, where, path)
    try:
        return {name.stem or "y": np.array(int(data), np.int64)}
    except (ValueError, OverflowError):
        raise _error("no class", where, path, repr(data[:16]), "an integer") from None


def _decode_npz(data: bytes, where: str, path: str, max_bytes: int) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                name, dot, kind = info.filename.rpartition(".")
                if not dot or kind != "npy":
                    continue
                max_bytes -= info.file_size
                if max_bytes < 0 or name in arrays:
                    found = (
                        "two arrays of one name" if name in arrays else f"{info.file_size} bytes"
                    )
                    raise _error("damaged npz", where, path, found, "less, and no name twice")
                # No more than was said, whatever there is; less is found by the array's header.
                with archive.open(info) as member:
                    content = member.read(info.file_size + 1)
                arrays[name] = decode_array(content, f"{name} in {where}", path)
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OverflowError),
        *(RuntimeError, OSError, UnicodeDecodeError),
    ) as error:
        if isinstance(error, ImporterError):
            raise
        raise _error("damaged npz", where, path, repr(str(error)), "a valid archive") from error
    return arrays


def _decode_json(name: MemberName, data: bytes, where: str, path: str) -> dict[str, NDArray[Any]]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _error("damaged JSON", where, path, repr(str(error)), "valid JSON") from error
    members = value if isinstance(value, dict) else {name.stem or "json": value}
    arrays: dict[str, NDArray[Any]] = {}
    for key, number in members.items():
        if isinstance(number, bool):
            arrays[key] = np.array(number)
        elif isinstance(number, float):
            arrays[key] = np.array(number, np.float64)
        elif isinstance(number, int):
            if not -(1 << 63) <= number < 1 << 63:
                raise _error("too large a number", where, path, f"{key!r}: {number}", "an int64")
            arrays[key] = np.array(number, np.int64)
    return arrays


def _error(what: str, where: str, path: str, found: str, expected: object) -> ImporterError:
    return ImporterError(
        f"{what}: {where}: found {found}, expected {expected}; write the file again", path
    )
