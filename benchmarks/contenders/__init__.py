"""The contenders: one module each, with a function `create()`; see `harness.contender`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CONTENDERS", "DERIVED", "Entry"]

# Formats that `harness.data` writes; a contender of another writes its files itself, out of "npy".
DERIVED = {"", "e2eio", "parquet", "hdf5", "npy"}


@dataclass(frozen=True, slots=True)
class Entry:
    """How a contender is called, and the format that it reads ("" for none).

    Contenders of one format share its files. `group` names the environment that has its packages
    (`harness.peer_environments`; "": the project's own); `module` is its module if not
    `contenders.<name>`. `is_peer`: measured by io_speed unless told otherwise; the others are
    e2eio's own variants.
    """

    title: str
    format: str
    group: str = ""
    is_peer: bool = True
    module: str = ""

    @property
    def has_own_files(self) -> bool:
        return self.format not in DERIVED


# In order of importance: a run that ends early has measured the first.
CONTENDERS = {
    "e2eio_dense": Entry("e2eio", "e2eio"),
    "torch_parquet": Entry("Parquet, to_pydict", "parquet"),
    "torch_hdf5": Entry("HDF5 gzip", "hdf5"),
    "torch_npy": Entry("npy, one by one", "npy"),
    "torch_npy_batched": Entry("npy, by batches", "npy"),
    "clear_memset": Entry("memset alone", ""),
    "clear_nontemporal": Entry("streaming clear alone", ""),
    "torch_e2eio": Entry("e2eio under torch's DataLoader", "e2eio"),
    "csr_to_dense": Entry("e2eio's bytes, CSR, to_dense", "e2eio"),
    "tfdata_serial": Entry("tf.data GZIP, serial", "tfrecord", "tensorflow"),
    "tfdata_autotune": Entry("tf.data GZIP, AUTOTUNE", "tfrecord", "tensorflow"),
    "dali_numpy": Entry("DALI, numpy reader", "npy_files", "dali"),
    "ffcv_raw": Entry("FFCV, raw", "ffcv", "ffcv"),
    "spdl_zstd": Entry("SPDL, zstd", "zstd", "spdl"),
    "grain_arrayrecord": Entry("Grain, ArrayRecord", "arrayrecord", "grain"),
    "webdataset_zstd": Entry("WebDataset, zstd", "webdataset", "webdataset"),
    "litdata_zstd": Entry("LitData, zstd", "litdata", "litdata"),
    "mosaicml_zstd": Entry("MosaicML Streaming, zstd", "mds", "mosaicml"),
    "tensorstore_zarr3": Entry("TensorStore, zarr3", "zarr3", "tensorstore"),
    "blosc2_zstd": Entry("Blosc2, zstd", "blosc2", "blosc2"),
    "huggingface_arrow": Entry("Hugging Face datasets", "arrow", "huggingface"),
    "root_dataloader": Entry("ROOT RDataLoader", "root", "root"),
    "dali_external": Entry("DALI, external source", "npy", "dali"),
    "torch_parquet_flat": Entry("Parquet, flattened", "parquet"),
    "torch_hdf5_lzf": Entry("HDF5 lzf", "hdf5_lzf"),
    "torch_hdf5_contiguous": Entry("HDF5 contiguous", "hdf5_contiguous"),
    "copy_memory": Entry("memcpy alone", ""),
    "e2eio_coo": Entry("e2eio, coo", "e2eio"),
    "e2eio_wire_threads": Entry("e2eio, sparse for a GPU", "e2eio"),
    "e2eio_unverified": Entry("e2eio, not verified", "e2eio", is_peer=False),
    "e2eio_one_thread": Entry("e2eio, one thread", "e2eio", is_peer=False),
    "e2eio_wire": Entry("e2eio, sparse, one thread", "e2eio", is_peer=False),
}
