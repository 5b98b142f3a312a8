"""What a batch is made of: the contract between the loader and a framework's adapter."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from e2eio.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.batches.forms import Coo
    from e2eio.batches.lease import Lease

__all__ = ["FRAMEWORKS", "Framework", "framework_named"]

FRAMEWORKS = ("torch", "numpy", "jax", "tf")


class Framework(Protocol):
    """Turns lent memory and columns into a framework's arrays. Adapter modules provide these."""

    def check_dtype(self, dtype: str) -> None:
        """Raise ConfigError if the framework has no such dtype."""

    def image(self, lease: Lease, *, dtype: str, writable: bool) -> Any:
        """Return the batch of images: over the lent memory, if the framework can keep the lease for as long."""

    def coo(
        self,
        coordinates: NDArray[Any],
        values: NDArray[Any],
        shape: tuple[int, int, int, int],
        *,
        dtype: str,
    ) -> Coo:
        """Return a batch of pixel lists over the lent memory, without a copy."""

    def scalar(self, column: NDArray[Any]) -> Any:
        """Return a batch of a scalar field; the memory is the batch's own."""


def framework_named(name: str) -> Framework:
    """Return the adapter of that name.

    Raises
    ------
    ConfigError
        There is none of that name.
    MissingDependencyError
        The framework is not installed.
    """
    if name not in FRAMEWORKS:
        raise ConfigError(f"unknown framework: found {name!r}; expected {' or '.join(FRAMEWORKS)}")
    return cast("Framework", import_module(f"e2eio.adapters.{name}"))
