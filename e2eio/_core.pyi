"""The compiled core. A mirror of cpp/e2eio, without logic of its own; use the Python modules instead."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

def kernels() -> list[str]: ...
def kernel_set() -> str: ...
def crc32c(
    data: bytes | bytearray | memoryview | NDArray[Any], value: int = 0
) -> int: ...  # of contiguous bytes that follow others whose CRC is `value`
def permute(n: int, key: int, indices: NDArray[np.uint64]) -> NDArray[np.uint64]: ...
def usable_cores() -> int: ...
def clear_memset(address: int, n_bytes: int) -> None: ...
def clear_nontemporal(address: int, n_bytes: int) -> None: ...

class Schema:
    def __init__(
        self,
        image_name: str,
        height: int,
        width: int,
        channel_names: Sequence[str],
        channel_units: Sequence[str],
        scalar_names: Sequence[str],
        scalar_dtypes: Sequence[str],  # numpy names: "float32", "int64", "bool", ...
        scalar_units: Sequence[str],
        precision: str,  # "float32" | "float16"
    ) -> None: ...
    @property
    def image_name(self) -> str: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def channel_names(self) -> list[str]: ...
    @property
    def channel_units(self) -> list[str]: ...
    @property
    def scalar_names(self) -> list[str]: ...
    @property
    def scalar_dtypes(self) -> list[str]: ...
    @property
    def scalar_units(self) -> list[str]: ...
    @property
    def precision(self) -> str: ...

class ShardWriter:
    """Writes one shard: a temporary file beside `path`, renamed by finish()."""

    def __init__(
        self,
        path: str,
        schema: Schema,
        shard_id: bytes,
        compression_level: int,
        overwrite: bool,
        nonfinite: str = "keep",  # "keep" | "zero" | "skip": pixels; "skip": the sample
    ) -> None: ...
    @staticmethod
    def in_memory(
        schema: Schema, shard_id: bytes, compression_level: int
    ) -> tuple[ShardWriter, FinishedBytes]: ...
    def append(
        self,
        images: NDArray[
            Any
        ],  # float32 or float64 [n, C, H, W], any strides (an HWC array as a transposed view)
        scalars: Sequence[NDArray[Any]],  # one [n] array per scalar field, of the schema's dtype
    ) -> NDArray[np.int64]: ...  # numbers, from 0, of the samples that were left out
    def complete(self) -> str: ...  # writes all; the file can be read at this path until finish()
    def finish(self) -> None: ...  # complete(), fsync, rename, fsync of the directory
    def abort(self) -> None: ...  # idempotent; removes the temporary file
    @property
    def n_samples(self) -> int: ...
    @property
    def n_bytes(self) -> int: ...  # of the finished file; before finish(), of what is written
    @property
    def n_rounded(
        self,
    ) -> int: ...  # float64 pixels that are no float32 and were rounded to nearest even
    @property
    def n_zeroed(self) -> int: ...  # pixels that nonfinite="zero" has made +0.0
    @property
    def digest(self) -> str: ...  # of the finished shard, as in dataset.json
    def sample_digests(
        self,
    ) -> NDArray[np.uint64]: ...  # of what was given, one per sample: docs/format.md, section 7.1
    def statistics(
        self,
    ) -> dict[str, NDArray[Any]]: ...  # keys as in dataset.json, one [C] array each

class FinishedBytes:
    def take(self) -> bytes: ...  # of the shard, once it is finished

class ShardReader:
    def __init__(
        self,
        path: str,
        io: str = "auto",  # "auto" (E2EIO_IO, else pread) | "pread" | "uring"
        throttle: tuple[float, float] | None = None,  # bytes/s (0: no limit), s per seek
    ) -> None: ...
    @staticmethod
    def of_bytes(content: bytes, name: str) -> ShardReader: ...  # copies them
    @property
    def path(self) -> str: ...
    @property
    def schema(self) -> Schema: ...
    @property
    def n_samples(self) -> int: ...
    @property
    def n_bytes(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def digest(self) -> str: ...
    @property
    def io(self) -> str: ...  # the way of reading: "pread", "uring", "throttled pread", ...
    def advise(
        self, advice: str
    ) -> None: ...  # the whole file: "will_need" | "random" | "dont_need"
    def record_sizes(self) -> NDArray[np.uint32]: ...
    def column(self, index: int) -> NDArray[Any]: ...  # scalar column, [n_samples]
    def check(
        self, begin: int, end: int
    ) -> None: ...  # checksum and full decode of records [begin, end); raises
    def sample_digests(
        self, begin: int, end: int
    ) -> NDArray[np.uint64]: ...  # the same, and what they hold: docs/format.md, section 7.1
    def decode(
        self, ids: NDArray[np.int64], channels: Sequence[int]
    ) -> NDArray[np.float32]: ...  # [n, len(channels), H, W]

class SampleReader:
    """Samples on request, of several shards as one sequence."""

    def __init__(self, readers: Sequence[ShardReader | LateShard]) -> None: ...
    def read(
        self, ids: NDArray[np.int64], channels: Sequence[int], threads: int
    ) -> NDArray[np.float32]: ...  # [n, len(channels), H, W], one's own

class LateShards:
    """Shards that are made when they are touched (cpp/e2eio/pipeline/late_shards.hpp)."""

    def __init__(self, schema: Schema, n_samples: Sequence[int], ahead: int) -> None: ...
    @property
    def n_missing(self) -> int: ...
    def next_wanted(
        self,
    ) -> tuple[int, bool] | None: ...  # index, awaited; None: closed, or all is made
    def attach(self, index: int, shard: ShardReader) -> None: ...
    def fail(self, index: int, error: BaseException) -> None: ...
    def put_off(self, index: int) -> None: ...
    def wait(self, indices: Sequence[int], timeout_s: float) -> bool: ...  # all are there
    def reader(self, index: int) -> ShardReader | None: ...
    def close(self) -> None: ...

class LateShard:
    def __init__(self, of: LateShards, index: int) -> None: ...
    @property
    def index(self) -> int: ...
    @property
    def n_samples(self) -> int: ...
    @property
    def n_bytes(self) -> int: ...  # about, before it is there

class Order:
    """Which sample stands at which place of an epoch (docs/plan.md); immutable."""

    @staticmethod
    def in_file_order(n: int) -> Order: ...
    @staticmethod
    def shuffled(n: int, key: int) -> Order: ...
    @staticmethod
    def windowed(n: int, key: int, extent: int) -> Order: ...
    @staticmethod
    def weighted(weights: NDArray[np.uint64], key: int, n_places: int) -> Order: ...
    @staticmethod
    def mixed(parts: Sequence[Order], shares: Sequence[int], n_places: int) -> Order: ...
    def selected(self, ids: NDArray[np.int64]) -> Order: ...  # its sample i is ids[i]
    @property
    def n_places(self) -> int: ...
    def ids(self, epoch: int, first: int, n: int) -> NDArray[np.int64]: ...

class EpochPlan:
    def __init__(
        self, order: Order, *, batch_size: int, rank: int, world_size: int, drop_last: bool
    ) -> None: ...
    def n_batches(self, begin: int = 0) -> int: ...
    def batch_ids(self, epoch: int, batch: int, begin: int = 0) -> NDArray[np.int64]: ...
    def place_after(self, batches: int, begin: int = 0) -> int: ...

class Pipeline:
    def __init__(
        self,
        readers: Sequence[ShardReader | LateShard],
        *,
        batch_size: int,
        shuffle: bool = False,
        key: int = 0,
        drop_last: bool,
        channels: Sequence[int],
        transforms: Sequence[
            tuple[str, int, float, list[tuple[int, float, float, float, int]], list[int]]
        ] = ...,  # cpp/e2eio/transform/transform_spec.hpp
        transform_key: int = 0,
        dtype: str,
        layout: str,
        form: str = "dense",  # "dense" | "coo" | "wire"
        writable: bool,
        verify: bool,
        threads: int,  # the limit, if auto_threads
        prefetch: int,  # the limit, if auto_prefetch
        auto_threads: bool,
        auto_prefetch: bool,
        memory_limit_bytes: int,
        rank: int,
        world_size: int,
        fed: bool = False,  # batches come by feed(), of at most batch_size samples
        order: Order | None = None,  # None: of shuffle and key
        page_lock: tuple[
            int, ...
        ] = ...,  # lock, unlock, flags, enter, leave, context: addresses of functions; 0: none
    ) -> None: ...
    @property
    def n_batches(self) -> int: ...  # of the plan
    @property
    def last_batch_shape(
        self,
    ) -> tuple[int, int, int, int]: ...  # in the layout; of 0 samples without batches
    def start(self, epoch: int, begin: int) -> None: ...  # a place of the order
    def start_fed(self, epoch: int) -> None: ...
    def feed(self, ids: NDArray[np.int64]) -> None: ...  # one batch
    def end_feed(self) -> None: ...
    def next(self, timeout_s: float) -> Batch | None: ...  # None: not ready within the time
    @property
    def exhausted(self) -> bool: ...
    @property
    def ready(self) -> bool: ...  # next() would not wait
    def stats(self) -> dict[str, Any]: ...
    def close(self) -> None: ...

class Batch:
    @property
    def ids(self) -> NDArray[np.int64]: ...
    @property
    def address(self) -> int: ...  # of the dense batch; 0: another form
    @property
    def page_locked(self) -> bool: ...  # a device can read the memory by itself
    @property
    def shape(self) -> tuple[int, int, int, int]: ...
    @property
    def n_bytes(self) -> int: ...  # of the dense batch
    @property
    def wire(self) -> tuple[int, int] | None: ...  # address and bytes; None: a dense batch
    @property
    def coo(
        self,
    ) -> (
        tuple[int, int, int] | None
    ): ...  # addresses of coordinates and values, number of pixels; None: another form
    def release(self, dirty: bool) -> None: ...

class ReadQueue:
    """Reads of served shards: what the core asks for, and its server's answers."""

    def __init__(self) -> None: ...
    @property
    def descriptor(self) -> int: ...  # can be read from while there are news; of this process
    @property
    def n_sources(self) -> int: ...
    def add_source(self) -> int: ...
    def remove_source(self, source: int) -> None: ...
    def take(
        self,
    ) -> tuple[
        list[tuple[int, int, int, int, bool]], list[int], list[int]
    ]: ...  # (ticket, source, offset, bytes, past caches); tickets nobody waits for; sources gone
    def complete(self, ticket: int, data: bytes, retries: int) -> None: ...
    def fail(
        self, ticket: int, kind: str, message: str, path: str, errno: int
    ) -> None: ...  # kind: "io" | "corrupt"
    def fail_source(self, source: int, kind: str, message: str, path: str, errno: int) -> None: ...
    def close(self, message: str) -> None: ...

def open_served(
    queue: ReadQueue,
    number: int,
    path: str,
    kind: str,
    n_bytes: int,
    merge_gap_bytes: int,
    parts: Sequence[tuple[int, bytes]],
    local: str = "",
) -> ShardReader: ...
def adopt(reader: ShardReader, path: str) -> None: ...  # reads the copy from now on
