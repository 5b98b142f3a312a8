"""Batches as JAX arrays: the only module that imports jax."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from e2eio.adapters import numpy as host
from e2eio.batches.forms import Coo
from e2eio.errors import ConfigError, MissingDependencyError

try:
    import jax
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "jax is missing: needed for framework='jax' and e2eio.jax; install it with "
        "'pip install e2eio[jax]', or pass framework='numpy'"
    ) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.batches.lease import Lease

__all__ = [
    "Array",
    "JaxCoo",
    "Sharding",
    "batch_sharding",
    "check_dtype",
    "coo",
    "global_array",
    "image",
    "process_index_and_count",
    "scalar",
    "shares_of",
    "spans_all_processes",
]


Array = jax.Array
Sharding = jax.sharding.Sharding


class JaxCoo(Coo):
    """A :class:`e2eio.Coo` of JAX arrays; a pytree of its two arrays, the shape being static."""

    __slots__ = ()

    def to_dense(self) -> jax.Array:
        """Return the dense batch [n, C, H, W], bit for bit what ``form="dense"`` delivers."""
        dense = jax.numpy.zeros(self.shape, self.values.dtype)
        return dense.at[tuple(self.coordinates.T)].set(self.values, unique_indices=True)

    def to_bcoo(self) -> Any:
        """Return a jax.experimental.sparse.BCOO of the dense shape."""
        from jax.experimental import sparse

        return sparse.BCOO(
            (self.values, self.coordinates),
            shape=self.shape,
            indices_sorted=True,
            unique_indices=True,
        )


jax.tree_util.register_pytree_node(
    JaxCoo,
    lambda coo: ((coo.coordinates, coo.values), coo.shape),
    lambda shape, arrays: JaxCoo(*arrays, shape),
)


def check_dtype(dtype: str) -> None:
    """Accept all dtypes of the loader."""
    del dtype


def image(lease: Lease, *, dtype: str, writable: bool) -> jax.Array:
    """Return the images on the default device.

    A CPU device may read the slot in place (it does where the address is a multiple of 64, in spite of
    ``may_alias=False``), and others read it for as long as the transfer takes. In both cases JAX keeps the numpy
    array, and with it the lease, so the slot cannot return to the ring before. It never writes into it: donated
    arrays over foreign memory are copied.
    """
    del writable  # JAX arrays are immutable
    return _put(host.image(lease, dtype=dtype, writable=False))


def coo(
    coordinates: NDArray[Any],
    values: NDArray[Any],
    shape: tuple[int, int, int, int],
    *,
    dtype: str,
) -> JaxCoo:
    """Return the pixel lists on the default device; memory is kept as that of images is."""
    lists = host.coo(coordinates, values, shape, dtype=dtype)
    return JaxCoo(_put(lists.coordinates), _put(lists.values), shape)


def scalar(column: NDArray[Any]) -> jax.Array:
    """Return the column on the default device, in 32 bits unless jax_enable_x64 is set."""
    return _put(_as_jax_has_it(column))


def _put(array: NDArray[Any]) -> jax.Array:
    on_device: jax.Array = jax.device_put(array)
    return on_device


def _as_jax_has_it(column: NDArray[Any]) -> NDArray[Any]:
    # JAX would do the same, but wrap integers round without a word.
    dtype = jax.dtypes.canonicalize_dtype(column.dtype)
    if dtype == column.dtype:
        return column
    with np.errstate(over="ignore"):  # a float64 may become infinite, as everywhere in JAX
        narrow = column.astype(dtype)
    if column.dtype.kind in "iu" and not np.array_equal(narrow, column):
        raise ConfigError(
            f"integers do not fit into {dtype}: found {column.min()} to {column.max()} in a {column.dtype} field; "
            "call jax.config.update('jax_enable_x64', True) before anything else"
        )
    return narrow


def process_index_and_count() -> tuple[int, int]:
    """Return which of how many JAX processes this is."""
    return jax.process_index(), jax.process_count()


def batch_sharding(mesh_or_sharding: Any) -> jax.sharding.Sharding:
    """Return a sharding of the batch axis alone.

    Raises
    ------
    ConfigError
        A mesh of several axes, or another axis than the first is sharded.
    """
    if isinstance(mesh_or_sharding, jax.sharding.Mesh):
        if len(mesh_or_sharding.axis_names) != 1:
            raise ConfigError(
                f"mesh has the axes {mesh_or_sharding.axis_names}; say which one the batch is split over: "
                "jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('...'))"
            )
        return _split_by(mesh_or_sharding, mesh_or_sharding.axis_names)
    if not isinstance(mesh_or_sharding, jax.sharding.Sharding):
        raise ConfigError(
            f"sharding is a {type(mesh_or_sharding).__name__}; expected a jax.sharding.Mesh or Sharding"
        )
    if not isinstance(mesh_or_sharding, jax.sharding.NamedSharding):
        return mesh_or_sharding
    spec: Any = mesh_or_sharding.spec
    if any(axis is not None for axis in spec[1:]):
        raise ConfigError(
            f"sharding splits {spec}; expected the first axis only: every process loads whole images. "
            "Split the others inside jit, by jax.lax.with_sharding_constraint"
        )
    # Scalars have no other axis, so the specification may name none.
    return _split_by(mesh_or_sharding.mesh, spec[0] if len(spec) > 0 else None)


def _split_by(mesh: Any, axes: Any) -> jax.sharding.NamedSharding:
    partition: Any = jax.sharding.PartitionSpec
    return jax.sharding.NamedSharding(mesh, partition(axes))


def shares_of(sharding: jax.sharding.Sharding) -> tuple[int, int, int]:
    """Return which share of the batch this process holds, of how many, and into how many parts it is split.

    Shares are numbered by their place along the batch axis. Processes that hold the same part of the
    batch, as model parallelism has it, have the same share.

    Raises
    ------
    ConfigError
        The sharding has no device of this process, or gives processes shares that overlap or differ in size.
    """
    n = len(sharding.device_set)
    places: dict[int, set[tuple[int, int]]] = defaultdict(set)
    indices: dict[Any, Any] = dict(sharding.devices_indices_map((n,)))
    for device, index in indices.items():
        begin, end, _ = index[0].indices(n)
        places[device.process_index].add((begin, end))
    own = tuple(sorted(places[jax.process_index()]))
    shares = sorted({tuple(sorted(each)) for each in places.values()})
    parts = [part for share in shares for part in share]
    if not own or len({len(share) for share in shares}) > 1 or len(parts) > len(set(parts)):
        raise ConfigError(
            f"sharding {sharding} does not split the batch evenly among the processes; "
            "expected the devices of each process to hold as much of it as those of any other"
        )
    return shares.index(own), len(shares), len(own)


def spans_all_processes(sharding: jax.sharding.Sharding) -> bool:
    """Return whether every process of the job has a device of the sharding."""
    devices: Any = sharding.device_set
    return len({device.process_index for device in devices}) == int(jax.process_count())


def global_array(sharding: jax.sharding.Sharding, local: NDArray[Any]) -> jax.Array:
    """Return the global array of which this process holds `local`; its first axis is the batch.

    Memory is kept as by :func:`image`.
    """
    make: Any = jax.make_array_from_process_local_data
    array: jax.Array = make(sharding, _as_jax_has_it(local))
    return array
