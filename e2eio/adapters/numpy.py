"""Batches as numpy arrays, and the host arrays that JAX and TensorFlow read from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e2eio.batches.forms import Coo
from e2eio.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.batches.lease import Lease

__all__ = ["check_dtype", "coo", "image", "scalar"]


def check_dtype(dtype: str) -> None:
    """Refuse bfloat16, which numpy has not."""
    if dtype == "bfloat16":
        raise ConfigError(
            "no bfloat16 in numpy: found framework='numpy' and dtype='bfloat16'; "
            "use framework='torch', 'jax' or 'tf', or dtype='float16'"
        )


def image(lease: Lease, *, dtype: str, writable: bool) -> NDArray[Any]:
    """Return the lent memory as an array, read-only unless writable."""
    return _typed(lease.array(writable=writable), dtype)


def coo(
    coordinates: NDArray[Any],
    values: NDArray[Any],
    shape: tuple[int, int, int, int],
    *,
    dtype: str,
) -> Coo:
    """Return the arrays as they are."""
    return Coo(coordinates, _typed(values, dtype), shape)


def scalar(column: NDArray[Any]) -> NDArray[Any]:
    """Return the column as it is."""
    return column


def _typed(words: NDArray[Any], dtype: str) -> NDArray[Any]:
    if dtype != "bfloat16":
        return words
    import ml_dtypes  # both frameworks that read bfloat16 from the host bring it

    return words.view(ml_dtypes.bfloat16)
