"""Batches as torch tensors: the only module that imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e2eio.errors import MissingDependencyError

try:
    import torch
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "torch is missing: needed for framework='torch'; install it with 'pip install e2eio[torch]', "
        "or pass framework='numpy'"
    ) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.lease import Lease

__all__ = ["check_dtype", "image", "scalar"]


def check_dtype(dtype: str) -> None:
    """Accept all dtypes of the loader."""
    del dtype


def image(lease: Lease, *, dtype: str, writable: bool) -> torch.Tensor:
    """Return the lent memory as a tensor.

    torch has no read-only tensors. Unless the batch is writable, the tensor's version counter, which every
    in-place operation on it, its views and ``detach()`` raises, is read when the last of them is gone.
    """
    tensor = torch.from_numpy(lease.array(writable=True))
    if dtype == "bfloat16":
        tensor = tensor.view(torch.bfloat16)
    if not writable:
        counter = tensor.detach()  # shares the version counter ...
        counter.data = torch.empty(0)  # ... but no longer the memory, which it would keep alive
        before = counter._version
        lease.watch(lambda: counter._version != before)
    return tensor


def scalar(column: NDArray[Any]) -> torch.Tensor:
    """Return the column as a tensor over the same memory."""
    return torch.from_numpy(column)
