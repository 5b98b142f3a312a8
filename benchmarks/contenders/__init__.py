"""The contenders: one module each, with a function `create()`; see `harness.contender`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CONTENDERS", "Entry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """How a contender is called, and the format of `harness.data` that it reads ("" for none).

    `is_peer`: measured by io_speed unless told otherwise; the others are e2eio's own variants.
    """

    title: str
    format: str
    is_peer: bool = True


CONTENDERS = {
    "e2eio_dense": Entry("e2eio", "e2eio"),
    "torch_parquet": Entry("Parquet, to_pydict", "parquet"),
    "torch_hdf5": Entry("HDF5 gzip", "hdf5"),
    "torch_npy": Entry("npy, one by one", "npy"),
    "torch_npy_batched": Entry("npy, by batches", "npy"),
    "clear_memset": Entry("memset alone", ""),
    "clear_nontemporal": Entry("streaming clear alone", ""),
    "e2eio_unverified": Entry("e2eio, not verified", "e2eio", is_peer=False),
    "e2eio_one_thread": Entry("e2eio, one thread", "e2eio", is_peer=False),
    "e2eio_wire": Entry("e2eio, sparse, one thread", "e2eio", is_peer=False),
}
