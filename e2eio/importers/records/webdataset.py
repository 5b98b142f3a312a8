"""WebDataset tar files: the members of a sample follow one another and share the name before the dot.

``000017.X_jets.npy`` is the image, ``000017.json`` a mapping of scalars, ``000017.cls`` the label
``y``. Members are found by their names, in any order, and of what kind they are is known from the
first sample; all others must have the same.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from e2eio.errors import ConfigError, ImporterError
from e2eio.importers.npy_array import pixel_dtype, scalar_dtype
from e2eio.importers.records.sequential import SequentialSource
from e2eio.importers.records.tar_members import MemberReader
from e2eio.importers.records.webdataset_members import PICKLES, decode_member, parse_name
from e2eio.importers.source import find_geometry, make_schema
from e2eio.importers.streams import open_stream
from e2eio.presets import IMAGE_COLUMNS
from e2eio.schema import DTYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.importers.records.sequential import Row, RowReader
    from e2eio.importers.records.tar_members import Member
    from e2eio.importers.records.webdataset_members import MemberName
    from e2eio.importers.source import ImportOptions
    from e2eio.importers.streams import Stream

__all__ = ["WebDatasetSource"]

_MAX_SAMPLE_BYTES: Final = 1 << 30
_SLACK_BYTES: Final = 1 << 20  # a sample may be twice as large as the first one, and this much more


class WebDatasetSource(SequentialSource):
    """A WebDataset tar file, as it is or in gzip; one thread at a time may use it.

    Parameters
    ----------
    path : str
    options : ImportOptions
        `image` is the name before ``.npy``, or of an array of an npz member.

    Raises
    ------
    ImporterError
        The file is truncated or damaged, or has no samples, or they have no image.
    ConfigError
        What the images mean is not clear, or is not what the options say.

    Examples
    --------
    >>> source = WebDatasetSource("jets-000.tar", ImportOptions(preset="tau"))  # doctest: +SKIP
    """

    _image: str
    _dims: tuple[int, ...]
    _suffixes: frozenset[str]  # of the members that are read
    _max_bytes: int

    def _read_first(self, options: ImportOptions) -> None:
        with closing(open_stream(self._path, self._compression)) as stream:
            samples = _Samples(self._path, MemberReader(self._path, stream), 0, _MAX_SAMPLE_BYTES)
            found = samples.next_sample(None)
        if found is None:
            raise ImporterError(
                f"no samples: {self._path}: found no members KEY.SUFFIX, expected at least one",
                self._path,
            )
        self._image = _image_array(self._path, found, options)
        image = found.arrays[self._image]
        self._pixels = image.dtype
        dtype = pixel_dtype(image.dtype)
        if dtype is None or 0 in image.shape:
            raise ImporterError(
                f"wrong type of images: {self._image!r} of {self._path}: found {image.dtype} "
                f"{list(image.shape)}, expected floats of 2, 4 or 8 bytes, or integers of 1 or 2; "
                "convert the arrays",
                self._path,
                sample=0,
            )
        self._dtype, self._dims = dtype, image.shape
        self._max_bytes = 2 * found.n_bytes + _SLACK_BYTES
        where = f"{self._image!r} of {self._path}"
        dims = (1, *self._dims) if len(self._dims) == 2 else self._dims
        self._geometry = find_geometry(where, dims, options)
        kept, self._skipped = _scalars(found, self._image)
        self._suffixes = frozenset(
            found.suffixes[name] for name in (self._image, *(name for name, _ in kept))
        )
        self._schema = make_schema(where, self._image, self._geometry, kept, options)

    def _rows(self, stream: Stream, offset_bytes: int, number: int) -> RowReader:
        members = MemberReader(self._path, stream, offset_bytes)
        return _Rows(self, _Samples(self._path, members, number, self._max_bytes))

    def _row(self, sample: _Sample) -> Row:
        image = self._array(sample, self._image)
        if image.shape != self._dims or image.dtype != self._pixels:
            raise sample.error(
                f"image {self._image!r} differs",
                f"{image.dtype} {list(image.shape)}",
                f"{self._pixels} {list(self._dims)}",
            )
        values = [self._scalar(sample, s.name, s.dtype) for s in self._schema.scalars]
        return image.reshape(-1), values

    def _array(self, sample: _Sample, name: str) -> NDArray[Any]:
        if name not in sample.arrays:
            raise sample.error(
                f"missing {name!r}", f"{sorted(sample.arrays)}", "those of the first sample"
            )
        return sample.arrays[name]

    def _scalar(self, sample: _Sample, name: str, dtype: str) -> NDArray[Any]:
        value = self._array(sample, name)
        found = scalar_dtype(value.dtype)
        exact = found == "int64" and dtype == "float64"  # JSON writes 500.0 as 500 where it likes
        exact = exact and bool(np.all(np.abs(value.astype(np.float64)) < 1 << 53))
        if value.size != 1 or (found != dtype and not exact):
            raise sample.error(
                f"scalar {name!r} differs", f"{found} {list(value.shape)}", f"one {dtype}"
            )
        return value.reshape(1)


class _Sample:
    """The arrays of one sample by name, and the members that they came from."""

    def __init__(self, path: str, number: int, key: str, offset_bytes: int) -> None:
        self._path, self._number, self._key = path, number, key
        self._offset_bytes = offset_bytes
        self.arrays: dict[str, NDArray[Any]] = {}
        self.suffixes: dict[str, str] = {}  # of each array
        self.seen: set[str] = set()
        self.others: list[str] = []
        self.n_bytes = 0

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self._path}, sample {self._number} ({self._key!r} at byte {self._offset_bytes})"

    def add(self, name: MemberName, data: bytes, max_bytes: int) -> None:
        """Take the arrays of a member."""
        where = f"member {name.suffix!r} of {self.where}"
        arrays = decode_member(name, data, where, self._path, max_bytes - self.n_bytes)
        for key, array in arrays.items():
            if key in self.arrays:
                raise self.error("name not unique", f"{key!r} twice", "one array of each name")
            self.arrays[key] = array
            self.suffixes[key] = name.suffix
            self.n_bytes += array.nbytes

    def error(self, what: str, found: str, expected: str) -> ImporterError:
        """Return an error that names the sample."""
        return ImporterError(
            f"{what}: {self.where}: found {found}, expected {expected}; write the file again",
            self._path,
            sample=self._number,
            offset_bytes=self._offset_bytes,
        )


class _Samples:
    """Gathers members into samples."""

    def __init__(self, path: str, members: MemberReader, number: int, max_bytes: int) -> None:
        self._path, self._members = path, members
        self._max_bytes = max_bytes
        self._number = number
        self._ahead: tuple[MemberName, Member] | None = None
        self._step()

    @property
    def offset_bytes(self) -> int:
        """Of the next sample."""
        return self._ahead[1].offset_bytes if self._ahead is not None else 0

    def next_sample(self, suffixes: frozenset[str] | None) -> _Sample | None:
        """Return the next sample with the members of these suffixes; None: of all that are known."""
        ahead = self._ahead
        if ahead is None:
            return None
        key = ahead[0].key
        sample = _Sample(self._path, self._number, key, self.offset_bytes)
        while ahead is not None and ahead[0].key == key:
            name, member = ahead
            if name.suffix in sample.seen:
                raise sample.error(
                    "member not unique", f"{name.suffix!r} twice", "one of each name"
                )
            sample.seen.add(name.suffix)
            wanted = name.is_decoded if suffixes is None else name.suffix in suffixes
            if wanted:
                if member.n_bytes > self._max_bytes:
                    raise sample.error(
                        f"member {name.suffix!r} too large",
                        f"{member.n_bytes} bytes",
                        f"at most {self._max_bytes}",
                    )
                sample.add(name, self._members.read(member), self._max_bytes)
            elif suffixes is None:
                what = "a pickle, not read" if name.kind in PICKLES else "not read"
                sample.others.append(f"{name.suffix} ({what})")
            self._step()
            ahead = self._ahead
        self._number += 1
        return sample

    def _step(self) -> None:
        while (member := self._members.next_file()) is not None:
            name = parse_name(member.name)
            if name is not None:
                self._ahead = (name, member)
                return
        self._ahead = None


class _Rows:
    """Goes from sample to sample."""

    def __init__(self, source: WebDatasetSource, samples: _Samples) -> None:
        self._source, self._samples = source, samples

    @property
    def offset_bytes(self) -> int:
        return self._samples.offset_bytes

    def skip(self) -> bool:
        return self._samples.next_sample(frozenset()) is not None

    def read(self) -> Row | None:
        sample = self._samples.next_sample(self._source._suffixes)
        return None if sample is None else self._source._row(sample)


def _image_array(path: str, sample: _Sample, options: ImportOptions) -> str:
    shapes = {name: list(array.shape) for name, array in sample.arrays.items()}
    if options.image is not None:
        if options.image in shapes:
            return options.image
        raise ConfigError(
            f"no such image: {path}: found arrays {shapes}, expected {options.image!r}; mend image"
        )
    candidates: list[str] = [name for name in IMAGE_COLUMNS if name in shapes]
    for n_axes in (3, 2, 1):
        same = [name for name, array in sample.arrays.items() if array.ndim == n_axes]
        candidates = candidates or [name for name in same if sample.arrays[name].size > 1]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise ConfigError(f"several images: {path}: found {candidates}, expected one; pass image")
    raise ImporterError(
        f"no image: {path}: found members {sorted(sample.seen)} with arrays {shapes}, expected one "
        "of an array, as X_jets.npy or image.npy (pickles and pictures are not read); write the "
        "images as npy or npz",
        path,
        sample=0,
    )


def _scalars(sample: _Sample, image: str) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Return name and dtype of the scalars by name, as the order of members means nothing."""
    kept, skipped = [], []
    for name, array in sorted(sample.arrays.items()):
        dtype = scalar_dtype(array.dtype)
        if name == image:
            continue
        if array.size == 1 and dtype in DTYPES:
            kept.append((name, dtype))
        else:
            skipped.append(f"{name} ({dtype} {list(array.shape)})")
    return kept, (*skipped, *sample.others)
