"""What the same jets take on disk in the formats that people use, one codec at its usual setting each."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["FORMATS", "weigh_formats"]

Images = NDArray[np.float32]


def _litdata(images: Images) -> float:
    """LitData: each sample as raw float32, zstd level 3 (its `compression="zstd"`)."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=3)
    return sum(len(compressor.compress(image.tobytes())) for image in images) / len(images)


def _tfrecord(images: Images) -> float:
    """TFRecord, GZIP: framed Example messages with a float list `X_jets`, compressed as one stream."""
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as file:
        for image in images:
            message = _example(image)
            # Length, its masked crc32c, data, its masked crc32c; the sums' values do not matter here.
            file.write(struct.pack("<QI", len(message), 0) + message + struct.pack("<I", 0))
    return stream.tell() / len(images)


def _example(image: Images) -> bytes:
    """tf.train.Example of one feature: nested length-delimited fields (protobuf wire type 2)."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2]) + _varint(len(content)) + content

    floats = field(1, np.ascontiguousarray(image.transpose(1, 2, 0)).tobytes())
    feature = field(2, floats)
    return field(1, field(1, field(1, b"X_jets") + field(2, feature)))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _hdf5(images: Images) -> float:
    """HDF5, gzip level 4, a chunk per jet."""
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset(
            "X_jets", data=images, chunks=(1, *images.shape[1:]), compression="gzip"
        )
    return len(stream.getbuffer()) / len(images)


def _parquet(images: Images) -> float:
    """Parquet as published: snappy, a row group per jet, a flat list of float32."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    schema = pa.schema([("X_jets", pa.list_(pa.float32()))])
    with pq.ParquetWriter(stream, schema, compression="snappy") as writer:
        for image in images:
            pixels = pa.array(np.ascontiguousarray(image.transpose(1, 2, 0)).reshape(-1))
            column = pa.ListArray.from_arrays(pa.array([0, len(pixels)], pa.int32()), pixels)
            writer.write_table(pa.Table.from_arrays([column], schema=schema))
    return len(stream.getbuffer()) / len(images)


def _webdataset(images: Images) -> float:
    """WebDataset: a tar of .npy.zst members, zstd level 3."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=3)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for k, image in enumerate(images):
            raw = io.BytesIO()
            np.save(raw, image)
            member = compressor.compress(raw.getvalue())
            info = tarfile.TarInfo(f"{k:08d}.x.npy.zst")
            info.size = len(member)
            tar.addfile(info, io.BytesIO(member))
    return stream.tell() / len(images)


def _zarr(images: Images) -> float:
    """Zarr: a chunk per jet, Blosc with zstd level 3 and byte shuffle."""
    from numcodecs import Blosc

    codec = Blosc(cname="zstd", clevel=3, shuffle=Blosc.SHUFFLE)
    return float(sum(len(codec.encode(np.ascontiguousarray(image))) for image in images)) / len(
        images
    )


def _blosc2(images: Images) -> float:
    """Blosc2: a chunk per jet, its defaults (zstd level 5, byte shuffle)."""
    import blosc2

    array = blosc2.asarray(
        np.ascontiguousarray(images),
        chunks=(1, *images.shape[1:]),
        cparams=blosc2.CParams(codec=blosc2.Codec.ZSTD),
    )
    return float(array.schunk.cbytes) / len(images)


FORMATS: dict[str, Callable[[Images], float]] = {
    "LitData, zstd-3": _litdata,
    "TFRecord, gzip": _tfrecord,
    "HDF5, gzip-4": _hdf5,
    "Parquet, snappy": _parquet,
    "WebDataset, zstd-3": _webdataset,
    "Zarr, Blosc zstd-3": _zarr,
    "Blosc2, zstd": _blosc2,
}


def weigh_formats(images: Images, names: Sequence[str] = tuple(FORMATS)) -> dict[str, float | str]:
    """Return the bytes per jet in each format, or why they are not known.

    Parameters
    ----------
    images : ndarray of float32, [n, C, H, W]
    names : sequence of str
        Out of `FORMATS`.
    """
    return {name: _weigh(FORMATS[name], images) for name in names}


def _weigh(weigh: Callable[[Images], float], images: Images) -> float | str:
    try:
        return weigh(images)
    except ImportError as error:
        return f"{error.name} is not installed"
