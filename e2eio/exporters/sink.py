"""What every exporter offers, and a file that is there complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from e2eio.errors import E2eioError
from e2eio.manifest import io_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.schema import Schema

__all__ = [
    "ExportOptions",
    "Form",
    "ImageSink",
    "PixelLists",
    "complete_file",
    "describe",
    "make_directory",
    "pixel_lists",
]

Form = Literal["sparse", "dense"]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How images are written.

    Parameters
    ----------
    form : {"sparse", "dense"}
        Lists of the pixels that are not zero, or all of them.
    layout : {"CHW", "HWC"}
        Order of the axes of dense images.
    compression : str or None
        As the format's library names it; None: none.
    group_samples : int
        Samples of a row group or chunk.
    """

    form: Form
    layout: Literal["CHW", "HWC"]
    compression: str | None
    group_samples: int


class ImageSink(Protocol):
    """A file that is being written; one thread at a time may use it."""

    def write(self, images: NDArray[np.float32], scalars: dict[str, NDArray[Any]]) -> None:
        """Append images [n, C, H, W], and scalars by name, each [n]; nothing of them is kept."""

    def close(self) -> None:
        """Write what is left, and the end of the file."""


class PixelLists:
    """The pixels of a channel that are not +0.0, of several samples: so -0.0, NaN and all other bits come back.

    Parameters
    ----------
    offsets : int64 [n + 1]
        Where each sample's begin.
    positions : int32 [nnz]
        ``y * W + x``, ascending within a sample.
    values : float32 [nnz]
    """

    __slots__ = ("offsets", "positions", "values")

    def __init__(
        self,
        offsets: NDArray[np.int64],
        positions: NDArray[np.int32],
        values: NDArray[np.float32],
    ) -> None:
        self.offsets = offsets
        self.positions = positions
        self.values = values


def pixel_lists(images: NDArray[np.float32]) -> list[PixelLists]:
    """Return the pixels of each channel of images [n, C, H, W].

    Examples
    --------
    >>> images = np.zeros((2, 1, 2, 2), np.float32)
    >>> images[1, 0, 1, 0] = -0.0
    >>> lists = pixel_lists(images)[0]
    >>> lists.offsets, lists.positions, lists.values
    (array([0, 0, 1]), array([2], dtype=int32), array([-0.], dtype=float32))
    """
    n, n_channels, height, width = images.shape
    flat = np.ascontiguousarray(images).reshape(n, n_channels, height * width)
    lists = []
    for channel in range(n_channels):
        pixels = flat[:, channel]
        samples, positions = np.nonzero(pixels.view(np.uint32))
        offsets = np.searchsorted(samples, np.arange(n + 1)).astype(np.int64)
        lists.append(PixelLists(offsets, positions.astype(np.int32), pixels[samples, positions]))
    return lists


def make_directory(path: Path) -> None:
    """Make a directory, and those around it, unless it is there.

    Raises
    ------
    ShardIOError
        The system refused.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise io_error("cannot make directory", path, error) from error


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """Give a temporary name to write under; the file gets its own at the end, and is gone if the block raises.

    Raises
    ------
    ShardIOError
        The system refused to write.
    """
    temporary = path.with_name(f"{path.name}.e2eio-tmp-{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except E2eioError:
        raise  # of what is read; some are OSErrors
    except OSError as error:
        raise io_error("cannot write", path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def describe(schema: Schema, options: ExportOptions) -> dict[str, object]:
    """Return what a reader needs to make images of what is stored, as JSON values."""
    image = schema.image
    return {
        "image": image.name,
        "shape": list(image.shape),
        "channels": list(schema.channels),
        "units": [channel.unit for channel in image.channels],
        "form": options.form,
        "layout": options.layout if options.form == "dense" else None,
    }
