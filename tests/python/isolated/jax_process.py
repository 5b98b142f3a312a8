# One of several JAX processes, started by test_jax.py: jax_process.py COORDINATOR RANK WORLD_SIZE DATASET OUT MODEL_PARALLEL
from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

import e2eio

untyped: Any = jax
P = untyped.sharding.PartitionSpec


def main() -> None:
    coordinator, rank, world_size, path, out, kind = sys.argv[1:]
    untyped.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, int(world_size), int(rank))
    # Devices of the hosts in another order than the processes; or both hosts holding the same part of the batch.
    devices = np.array(jax.devices())[::-1]
    mesh = Mesh(devices.reshape(2, -1), ("host", "local"))
    spec = P(("host", "local") if kind == "data" else "local")
    sharding = NamedSharding(mesh, spec)
    share, n_shares = e2eio.jax.process_share(sharding)
    wrong = e2eio.Loader(path, batch_size=8, framework="jax", rank=0, world_size=3)
    try:
        e2eio.jax.global_batches(wrong, sharding)
    except e2eio.errors.ConfigError as error:
        refused = str(error)
    given: dict[str, Any] = {"rank": share, "world_size": n_shares, "framework": "jax"}
    other = e2eio.Loader(path, batch_size=8, drop_last=True, seed=int(rank), **given)
    differing = ""
    try:
        iter(e2eio.jax.global_batches(other, sharding))
    except e2eio.errors.PlanMismatchError as error:
        differing = str(error)
    loader = e2eio.Loader(
        path,
        batch_size=8,
        shuffle=True,
        drop_last=True,
        fields=("X", "sample_id"),
        framework="jax",
        rank=share,
        world_size=n_shares,
        prefetch=1,
    )
    total = jax.jit(lambda x: x.sum(dtype="float32"))
    found = []
    with e2eio.jax.global_batches(loader, sharding) as batches:
        held = list(batches)
        held += list(batches)
        for x, ids in held:
            shards = [
                (
                    s.index[0].indices(len(ids))[:2],
                    str(next(iter(s.data.devices())) == s.device),
                    np.asarray(s.data).tobytes().hex(),
                    np.asarray(i.data).tolist(),
                )
                for s, i in zip(x.addressable_shards, ids.addressable_shards, strict=True)
            ]
            found.append({"shape": x.shape, "shards": shards, "total": float(total(x))})
    Path(out).write_text(
        json.dumps(
            {
                "share": [share, n_shares],
                "process": [jax.process_index(), jax.process_count()],
                "refused": refused,
                "differing": differing,
                "batches": found,
            }
        )
    )
    untyped.distributed.shutdown()


main()
