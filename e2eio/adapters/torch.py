"""Batches as torch tensors: the only module that imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e2eio.batches.forms import Coo
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

    from e2eio.batches.lease import Lease

__all__ = ["TorchCoo", "check_dtype", "coo", "image", "scalar"]


class TorchCoo(Coo):
    """A :class:`e2eio.Coo` of tensors."""

    __slots__ = ()

    def to_dense(self) -> torch.Tensor:
        """Return the dense batch [n, C, H, W], bit for bit what ``form="dense"`` delivers."""
        dense: torch.Tensor = self.values.new_zeros(self.shape)
        dense[self.coordinates.long().unbind(1)] = self.values
        return dense

    def to_sparse(self) -> torch.Tensor:
        """Return a coalesced torch.sparse_coo tensor of the dense shape; its indices are int64 [4, nnz]."""
        return torch.sparse_coo_tensor(
            self.coordinates.T.long(),
            self.values,
            self.shape,
            check_invariants=False,  # they hold by construction
            is_coalesced=True,
        )


def check_dtype(dtype: str) -> None:
    """Accept all dtypes of the loader."""
    del dtype


def image(lease: Lease, *, dtype: str, writable: bool) -> torch.Tensor:
    """Return the lent memory as a tensor.

    torch has no read-only tensors. Unless the batch is writable, the tensor's version counter, which every
    in-place operation on it, its views and ``detach()`` raises, is read when the last of them is gone.
    """
    # Tensors made in inference mode have no version counter.
    with torch.inference_mode(mode=False):
        tensor = torch.from_numpy(lease.array(writable=True))
        if dtype == "bfloat16":
            tensor = tensor.view(torch.bfloat16)
        if not writable:
            counter = tensor.detach()  # shares the version counter ...
            counter.data = torch.empty(0)  # ... but no longer the memory, which it would keep alive
            before = counter._version
            lease.watch(lambda: counter._version != before)
    return tensor


def coo(
    coordinates: NDArray[Any],
    values: NDArray[Any],
    shape: tuple[int, int, int, int],
    *,
    dtype: str,
) -> TorchCoo:
    """Return the arrays as tensors over the same memory."""
    tensor = torch.from_numpy(values)
    if dtype == "bfloat16":
        tensor = tensor.view(torch.bfloat16)
    return TorchCoo(torch.from_numpy(coordinates), tensor, shape)


def scalar(column: NDArray[Any]) -> torch.Tensor:
    """Return the column as a tensor over the same memory."""
    return torch.from_numpy(column)
