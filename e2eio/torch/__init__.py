"""What torch's own data interfaces look like over e2eio: `DataLoader` and its collation."""

from __future__ import annotations

from e2eio.errors import MissingDependencyError

try:
    from e2eio.torch.collation import default_collate
    from e2eio.torch.data_loader import DataLoader
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise MissingDependencyError(
        "torch is missing: needed for e2eio.DataLoader; install it with 'pip install e2eio[torch]', "
        "or use e2eio.Loader with framework='numpy'"
    ) from error

__all__ = ["DataLoader", "default_collate"]
