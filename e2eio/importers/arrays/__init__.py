"""Files of arrays: HDF5 and Zarr, which have many by name, and NumPy's own."""

from __future__ import annotations

__all__: list[str] = []
