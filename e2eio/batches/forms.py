"""Batches of images that list what is stored and nothing else."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["WIRE_CHANNEL", "WIRE_HEADER", "Coo", "Wire"]


class Coo(NamedTuple):
    """The pixels of a batch that are not +0.0, of ``Loader(form="coo")``.

    Sorted by sample, channel, y, x; each pixel occurs once and none is left out. -0.0 and NaN are listed, and
    what rounds to +0.0 in the dtype asked for is not: the pixels are those of the dense batch whose bits are not 0.

    The arrays are lent like those of dense batches (kept as long as you hold them), but may be written into.

    Attributes
    ----------
    coordinates : int32 [nnz, 4]
        (b, c, y, x): sample within the batch, channel among those delivered, row, column.
    values : [nnz]
        float32, or the loader's dtype.
    shape : tuple of int
        (n, C, H, W) of the dense batch.

    Examples
    --------
    >>> coo = e2eio.Coo(np.array([[0, 0, 1, 2]], np.int32), np.array([3.5], np.float32), (1, 1, 2, 4))
    >>> coo.to_dense()[0, 0].tolist()
    [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 3.5, 0.0]]

    With torch, for ``torch.sparse`` (int64 [4, nnz]) and for libraries that take int32 [nnz, 4], as spconv does:

    >>> coo.to_sparse()  # doctest: +SKIP
    >>> spconv.SparseConvTensor(
    ...     coo.values[:, None], coo.coordinates, coo.shape[1:], coo.shape[0]
    ... )  # doctest: +SKIP
    """

    coordinates: Any
    values: Any
    shape: tuple[int, int, int, int]

    def to_dense(self) -> Any:
        """Return the dense batch [n, C, H, W], bit for bit what ``form="dense"`` delivers."""
        dense = np.zeros(self.shape, dtype=self.values.dtype)
        b, c, y, x = self.coordinates.T
        dense[b, c, y, x] = self.values
        return dense


#: The first 64 bytes of a wire batch (cpp/e2eio/pipeline/sparse_batch.hpp, WireHeader).
WIRE_HEADER = np.dtype(
    [
        ("version", "<u4"),
        ("dtype", "<u4"),  # 1 float32, 101 float16, 102 bfloat16
        ("n_samples", "<u4"),
        ("n_channels", "<u4"),
        ("height", "<u4"),
        ("width", "<u4"),
        ("payload_offset", "<u8"),
        ("n_bytes", "<u8"),
        ("reserved", "<u8", 3),
    ]
)

#: One per sample and channel, from byte 64 on (WireChannel).
WIRE_CHANNEL = np.dtype(
    [
        ("first_position", "<u4"),
        ("first_value", "<u4"),
        ("n", "<u4"),
        ("block", "<u2"),
        ("dense", "<u2"),
    ]
)

_DTYPES = {1: "<f4", 101: "<f2", 102: "<u2"}


class Wire(NamedTuple):
    """A batch as it crosses a bus: one buffer, of ``Loader(form="wire")``.

    For consumers on a device, which copy the buffer whole and fill the images there. Native calorimeter
    blocks are not expanded, and channels with the same support share their positions, so it is the
    smallest form of a batch. The header cpp/e2eio/pipeline/sparse_batch.hpp is its description.

    Attributes
    ----------
    buffer : uint8 [n_bytes]
        Header, channels and payload, each at a multiple of 64 bytes. Lent; may be written into.

    Examples
    --------
    >>> for wire, y in e2eio.Loader(
    ...     "data/top", batch_size=64, form="wire", fields=("X_jets", "y")
    ... ):  # doctest: +SKIP
    ...     on_device = torch.from_numpy(wire.buffer).cuda()
    """

    buffer: NDArray[np.uint8]

    @property
    def header(self) -> np.void:
        """One WIRE_HEADER."""
        header: np.void = self.buffer[: WIRE_HEADER.itemsize].view(WIRE_HEADER)[0]
        return header

    @property
    def channels(self) -> NDArray[np.void]:
        """WIRE_CHANNEL [n_samples, n_channels]."""
        n, c = int(self.header["n_samples"]), int(self.header["n_channels"])
        begin = WIRE_HEADER.itemsize
        table = self.buffer[begin : begin + n * c * WIRE_CHANNEL.itemsize]
        return table.view(WIRE_CHANNEL).reshape(n, c)

    @property
    def payload(self) -> NDArray[np.uint8]:
        """Positions and values, which the channels point into."""
        return self.buffer[int(self.header["payload_offset"]) :]

    def to_dense(self) -> NDArray[Any]:
        """Return the dense batch [n, C, H, W]; bfloat16 as uint16 words. For tests, not for speed."""
        header = self.header
        height, width = int(header["height"]), int(header["width"])
        values = self.payload.view(_DTYPES[int(header["dtype"])])
        positions = self.payload.view("<u4")
        dense = np.zeros((*self.channels.shape, height, width), dtype=values.dtype)
        for image, channel in zip(
            dense.reshape(-1, height, width), self.channels.flat, strict=True
        ):
            n, block = int(channel["n"]), int(channel["block"])
            first = int(channel["first_value"])
            native = np.arange(n)
            at = native // (width // block) * block * width + native % (width // block) * block
            if not channel["dense"]:
                at = positions[int(channel["first_position"]) :][:n].astype(np.int64)
            for dy, dx in np.ndindex(block, block):
                image.reshape(-1)[at + dy * width + dx] = values[first : first + n]
        return dense
