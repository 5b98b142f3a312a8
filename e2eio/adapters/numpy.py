"""Batches as numpy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e2eio.errors import ConfigError
from e2eio.forms import Coo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.lease import Lease

__all__ = ["check_dtype", "coo", "image", "scalar"]


def check_dtype(dtype: str) -> None:
    """Refuse bfloat16, which numpy has not."""
    if dtype == "bfloat16":
        raise ConfigError(
            "no bfloat16 in numpy: found framework='numpy' and dtype='bfloat16'; "
            "use framework='torch', or dtype='float16'"
        )


def image(lease: Lease, *, dtype: str, writable: bool) -> NDArray[Any]:
    """Return the lent memory as an array, read-only unless writable."""
    del dtype
    return lease.array(writable=writable)


def coo(
    coordinates: NDArray[Any],
    values: NDArray[Any],
    shape: tuple[int, int, int, int],
    *,
    dtype: str,
) -> Coo:
    """Return the arrays as they are."""
    del dtype
    return Coo(coordinates, values, shape)


def scalar(column: NDArray[Any]) -> NDArray[Any]:
    """Return the column as it is."""
    return column
