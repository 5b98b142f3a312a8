"""TFRecord files of Example messages, as the boosted-top sets are published: gzip, zlib, or as they are.

The image is a list of floats (HWC) or one element of bytes that holds raw float32; features of one
number are the scalars. All records have the features of the first one, with as many numbers.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from e2eio.errors import ConfigError, ImporterError
from e2eio.importers.records.sequential import SequentialSource
from e2eio.importers.source import find_geometry, make_schema
from e2eio.importers.streams import open_stream
from e2eio.presets import IMAGE_COLUMNS
from e2eio.tfrecord import MessageError, RecordError, RecordReader, read_example

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.importers.records.sequential import Row
    from e2eio.importers.source import Geometry, ImportOptions
    from e2eio.importers.streams import Stream
    from e2eio.tfrecord import Feature

__all__ = ["TFRecordSource"]

_DTYPES: Final = {"float": "float32", "int64": "int64"}
_SLACK_BYTES: Final = 1 << 20  # a record may be twice as long as the first one, and this much more
_PICTURES: Final = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"BM": "BMP"}


class TFRecordSource(SequentialSource):
    """A TFRecord file; one thread at a time may use it.

    Parameters
    ----------
    path : str
    options : ImportOptions

    Raises
    ------
    ImporterError
        The file is truncated or damaged, or has no records, or its records no image.
    ConfigError
        What the images mean is not clear, or is not what the options say.

    Examples
    --------
    >>> source = TFRecordSource("boostedtop_x1_0.tfrecord", ImportOptions())  # doctest: +SKIP
    >>> images, scalars = next(source.chunks(0, 2))  # doctest: +SKIP
    >>> images.shape, sorted(scalars)  # doctest: +SKIP
    ((2, 8, 125, 125), ['m0', 'pt', 'y'])
    """

    _dtype = "float32"
    _image: str
    _n_raw: int  # bytes of an image that is an element of bytes; 0: it is a list of floats
    _max_bytes: int

    def _read_first(self, options: ImportOptions) -> None:
        with closing(open_stream(self._path, self._compression)) as stream:
            reader = RecordReader(stream)
            with _Place(self._path, 0, reader):
                payload = reader.read()
                if payload is None:
                    raise ImporterError(
                        f"no samples: {self._path}: found no records, expected at least one",
                        self._path,
                    )
                features = read_example(payload)
                self._image = _image_feature(self._path, features, options)
                pixels, self._n_raw = _first_pixels(self._path, self._image, features)
                kept, self._skipped = _scalars(features, self._image)
        self._max_bytes = 2 * len(payload) + _SLACK_BYTES
        where = f"feature {self._image!r} of {self._path}"
        self._geometry = find_geometry(where, (len(pixels),), options)
        self._schema = make_schema(where, self._image, self._geometry, kept, options)

    def _rows(self, stream: Stream, offset_bytes: int, number: int) -> _Rows:
        reader = RecordReader(stream, offset_bytes, self._max_bytes)
        names = {scalar.name: scalar.dtype for scalar in self._schema.scalars}
        return _Rows(self._path, reader, number, self._image, self._geometry, self._n_raw, names)


class _Place:
    """Translates errors of a record into those of this package, with file, number and offset."""

    __slots__ = ("_path", "_reader", "number", "offset_bytes")

    def __init__(self, path: str, number: int, reader: RecordReader) -> None:
        self._path, self._reader = path, reader
        self.number = number
        self.offset_bytes = reader.offset_bytes

    def __enter__(self) -> None:
        self.offset_bytes = self._reader.offset_bytes

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, RecordError):
            raise self.error(error.what, error.found, error.expected) from error
        if isinstance(error, MessageError):
            raise self.error("damaged Example", str(error), "a valid message") from error
        if kind is None:
            self.number += 1

    def error(self, what: str, found: str, expected: str) -> ImporterError:
        return ImporterError(
            f"{what}: {self._path}, record {self.number} at byte {self.offset_bytes}: found "
            f"{found}, expected {expected}; fetch or write the file again",
            self._path,
            sample=self.number,
            offset_bytes=self.offset_bytes,
        )


class _Rows:
    """Goes from record to record."""

    def __init__(
        self,
        path: str,
        reader: RecordReader,
        number: int,
        image: str,
        geometry: Geometry,
        n_raw: int,
        scalars: dict[str, str],
    ) -> None:
        self._reader = reader
        self._place = _Place(path, number, reader)
        self._image, self._n_pixels, self._n_raw = image, geometry.n_pixels, n_raw
        self._scalars = [
            (name, "float" if dtype == "float32" else dtype) for name, dtype in scalars.items()
        ]

    @property
    def offset_bytes(self) -> int:
        return self._reader.offset_bytes

    def skip(self) -> bool:
        with self._place:
            return self._reader.skip()

    def read(self) -> Row | None:
        with self._place:
            payload = self._reader.read()
            if payload is None:
                return None
            features = read_example(payload)
            values = [self._numbers(features, name, kind, 1) for name, kind in self._scalars]
            if self._n_raw:
                return self._raw(features), values
            return self._numbers(features, self._image, "float", self._n_pixels), values

    def _numbers(
        self, features: dict[str, Feature], name: str, kind: str, n_values: int
    ) -> NDArray[Any]:
        feature = self._feature(features, name, kind)
        values = feature.numbers()
        if len(values) != n_values:
            raise self._place.error(
                f"wrong length of feature {name!r}", f"{len(values)} numbers", f"{n_values}"
            )
        return values

    def _raw(self, features: dict[str, Feature]) -> NDArray[Any]:
        elements = self._feature(features, self._image, "bytes").texts()
        sizes = [len(element) for element in elements]
        if sizes != [self._n_raw]:
            raise self._place.error(
                f"wrong length of feature {self._image!r}",
                f"elements of {sizes} bytes",
                f"one of {self._n_raw}",
            )
        return np.frombuffer(elements[0], "<f4")

    def _feature(self, features: dict[str, Feature], name: str, kind: str) -> Feature:
        feature = features.get(name)
        if feature is None or feature.kind == "none":
            raise self._place.error(
                f"missing feature {name!r}", f"{sorted(features)}", "those of the first record"
            )
        if feature.kind != kind:
            raise self._place.error(
                f"wrong type of feature {name!r}", f"a list of {feature.kind}", f"one of {kind}"
            )
        return feature


def _image_feature(path: str, features: dict[str, Feature], options: ImportOptions) -> str:
    names = sorted(features)
    if options.image is not None:
        if options.image in features:
            return options.image
        raise ConfigError(
            f"no such image feature: {path}: found features {names}, expected "
            f"{options.image!r}; mend image"
        )
    lists = [
        name
        for name in names
        if features[name].kind == "float" and len(features[name].numbers()) > 1
    ]
    candidates = [name for name in IMAGE_COLUMNS if name in features] or lists
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise ConfigError(
            f"several image features: {path}: found {candidates}, expected one; pass image"
        )
    raise ImporterError(
        f"no image feature: {path}: found features {names}, expected one of a list of floats, as "
        f"{', '.join(IMAGE_COLUMNS)}; check that this is a file of images, or pass image",
        path,
    )


def _first_pixels(path: str, name: str, features: dict[str, Feature]) -> tuple[NDArray[Any], int]:
    """Return the numbers of the first image, and their bytes if they are an element of bytes."""
    feature = features[name]
    found = f"a list of {feature.kind}"
    if feature.kind == "float":
        pixels = feature.numbers()
        if len(pixels):
            return pixels, 0
        found = "an empty list"
    if feature.kind == "bytes":
        elements = feature.texts()
        found = f"{len(elements)} elements of bytes"
        if len(elements) == 1:
            head = bytes(elements[0][:4])
            picture = next((n for magic, n in _PICTURES.items() if head.startswith(magic)), None)
            found = f"a {picture} picture" if picture else f"{len(elements[0])} bytes"
            if not picture and len(elements[0]) and len(elements[0]) % 4 == 0:
                return np.frombuffer(elements[0], "<f4"), len(elements[0])
    raise ImporterError(
        f"wrong type of image feature: {name!r} of {path}: found {found}, expected a list of "
        "floats, or raw float32 in one element of bytes; write the pixels as such a list",
        path,
        sample=0,
    )


def _scalars(
    features: dict[str, Feature], image: str
) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Return name and dtype of the scalars by name, as the order in a message means nothing."""
    kept, skipped = [], []
    for name, feature in sorted(features.items()):
        if name == image:
            continue
        if feature.kind not in _DTYPES:
            skipped.append(f"{name} ({feature.kind})")
            continue
        n_values = len(feature.numbers())
        if n_values == 1:
            kept.append((name, _DTYPES[feature.kind]))
        else:
            skipped.append(f"{name} ({feature.kind} [{n_values}])")
    return kept, tuple(skipped)
