"""Batches as TensorFlow tensors, and loaders as ``tf.data``: the only module that imports tensorflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e2eio.adapters import numpy as host
from e2eio.adapters.channels_last import channels_last
from e2eio.batches.forms import Coo
from e2eio.errors import MissingDependencyError
from e2eio.options import SAMPLE_ID

try:
    import tensorflow as tf
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "tensorflow is missing: needed for framework='tf' and Loader.to_tf(); install it with "
        "'pip install e2eio[tf]', or pass framework='numpy'"
    ) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.batches.lease import Lease
    from e2eio.loader import BatchIterator, Loader

__all__ = ["TensorFlowCoo", "check_dtype", "coo", "dataset", "image", "scalar"]


class TensorFlowCoo(Coo):
    """A :class:`e2eio.Coo` of tensors."""

    __slots__ = ()

    def to_dense(self) -> tf.Tensor:
        """Return the dense batch [n, C, H, W], bit for bit what ``form="dense"`` delivers."""
        return tf.scatter_nd(self.coordinates, self.values, self.shape)

    def to_sparse(self) -> tf.SparseTensor:
        """Return a tf.SparseTensor of the dense shape, in its canonical order."""
        return tf.SparseTensor(tf.cast(self.coordinates, tf.int64), self.values, self.shape)


def check_dtype(dtype: str) -> None:
    """Accept all dtypes of the loader."""
    del dtype


def image(lease: Lease, *, dtype: str, writable: bool) -> tf.Tensor:
    """Return a copy of the images: TensorFlow copies what it is given outside of ``tf.data``.

    :func:`dataset` does without.
    """
    del writable  # tensors are immutable
    return tf.convert_to_tensor(host.image(lease, dtype=dtype, writable=False))


def coo(
    coordinates: NDArray[Any],
    values: NDArray[Any],
    shape: tuple[int, int, int, int],
    *,
    dtype: str,
) -> TensorFlowCoo:
    """Return copies of the pixel lists."""
    lists = host.coo(coordinates, values, shape, dtype=dtype)
    return TensorFlowCoo(
        tf.convert_to_tensor(lists.coordinates), tf.convert_to_tensor(lists.values), shape
    )


def scalar(column: NDArray[Any]) -> tf.Tensor:
    """Return a copy of the column."""
    return tf.convert_to_tensor(column)


def dataset(loader: Loader) -> tf.data.Dataset:
    """Return the batches of a loader as a ``tf.data.Dataset``.

    Images are [n, H, W, C], which Keras expects, whatever the loader's layout: one made for NCHW gets a second
    pipeline, which decodes into NHWC without transposing anything. Fields are those of the loader, a dict or a tuple: with
    ``fields=("X_jets", "y")`` it is what ``keras.Model.fit`` takes. Each iteration is the loader's next epoch; leaving it
    early gives the threads back.

    Nothing is copied: tensors lie over the loader's memory, which returns to its ring when they are gone. TensorFlow never
    writes into them, but for ``tf.raw_ops.Inplace...``, which must not be used on them. The loader decodes ahead by
    itself; ``prefetch`` is of use only after a ``map``. Errors arrive as ``tf.errors.OpError``, whose text has the
    type and the message of the loader's.

    Parameters
    ----------
    loader : Loader
        Of any framework, ``form="dense"``.

    Returns
    -------
    tf.data.Dataset
        Of ``len(loader)`` batches, of the loader's dtype. The batch axis is static with ``drop_last=True``.

    Raises
    ------
    ConfigError
        The loader's form is not "dense".
    MissingDependencyError
        TensorFlow is not installed.

    Examples
    --------
    >>> loader = e2eio.Loader("data/top", batch_size=64, shuffle=True, fields=("X_jets", "y"),
    ...                       framework="tf")  # doctest: +SKIP
    >>> model.fit(loader.to_tf(), epochs=2)  # doctest: +SKIP
    """
    source = channels_last(loader)

    def epoch() -> BatchIterator:
        batches = source.host_batches()
        batches.framework = host
        return batches

    batches = tf.data.Dataset.from_generator(epoch, output_signature=_signature(source))
    return batches.apply(tf.data.experimental.assert_cardinality(len(source)))


def _signature(loader: Loader) -> Any:
    image_shape = loader.last_batch_shape[1:]
    n = loader.options["batch_size"] if loader.options["drop_last"] else None
    schema = loader.dataset.schema
    specs = {field.name: tf.TensorSpec((n,), field.dtype) for field in schema.scalars}
    specs[SAMPLE_ID] = tf.TensorSpec((n,), "int64")
    specs[schema.image.name] = tf.TensorSpec((n, *image_shape), loader.options["dtype"])
    chosen = {name: specs[name] for name in loader.fields}
    return chosen if loader.as_dict else tuple(chosen.values())
