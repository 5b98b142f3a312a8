from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
import made_dataset

ISOLATED = Path(__file__).parent / "isolated"
needs_jax = pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed")
N = 150


def environment(n_devices: int) -> dict[str, str]:
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={n_devices}",
    }


@needs_jax
def test_arrays_and_global_batches_on_8_devices() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            ISOLATED / "jax_checks.py",
        ],
        env=environment(8),
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


def two_processes(path: Path, out: Path, kind: str) -> list[dict[str, Any]]:
    coordinator = f"127.0.0.1:{free_port()}"
    outs = [out / f"{rank}.json" for rank in range(2)]
    started = [
        subprocess.Popen(
            [
                sys.executable,
                ISOLATED / "jax_process.py",
                coordinator,
                str(rank),
                "2",
                path,
                outs[rank],
                kind,
            ],
            env=environment(4),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=120)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    return [json.loads(each.read_text()) for each in outs]


def check_shards(batch: dict[str, Any], images: NDArray[np.float32]) -> dict[int, int]:
    """Compare the shards with the dataset; return the sample at each place of the batch that they hold."""
    places: dict[int, int] = {}
    for (begin, end), on_its_device, data, ids in batch["shards"]:
        assert on_its_device == "True"
        assert len(ids) == end - begin
        assert bytes.fromhex(data) == images[ids].tobytes()
        places.update(zip(range(begin, end), ids, strict=True))
    return places


@needs_jax
@pytest.mark.parametrize("kind", ["data", "model"])
def test_two_processes_make_one_global_batch(tmp_path: Path, kind: str) -> None:
    images = made_dataset.make(tmp_path / "ds", N)
    processes = two_processes(tmp_path / "ds", tmp_path, kind)
    assert [p["process"] for p in processes] == [[0, 2], [1, 2]]
    # The mesh has the second process's devices first.
    shares = [[1, 2], [0, 2]] if kind == "data" else [[0, 1], [0, 1]]
    assert [p["share"] for p in processes] == shares
    assert all("rank=" in p["refused"] and "process_share" in p["refused"] for p in processes)
    # Compared by the processes' numbers, though the shares' are others.
    assert all("seed: 0 on rank 0; 1 on rank 1" in p["differing"] for p in processes)
    size = 16 if kind == "data" else 8
    # Together they are what one process loads in batches of that size.
    with e2eio.Loader(
        tmp_path / "ds",
        batch_size=size,
        shuffle=True,
        drop_last=True,
        fields=("X", "sample_id"),
        framework="numpy",
    ) as one:
        order = [ids.tolist() for _ in range(2) for _, ids in one]
    assert [len(p["batches"]) for p in processes] == [len(order)] * 2
    for expected, first, second in zip(order, *(p["batches"] for p in processes), strict=True):
        assert first["shape"] == second["shape"] == [size, *images.shape[1:]]
        places = check_shards(first, images) | check_shards(second, images)
        assert [places[k] for k in range(size)] == expected
        assert first["total"] == second["total"]
        np.testing.assert_allclose(
            first["total"], images[expected].sum(dtype=np.float64), rtol=1e-3
        )


def test_a_missing_package_is_named() -> None:
    code = (
        "import sys; sys.modules['jax'] = None\n"
        "import e2eio\n"
        "for load in (lambda: e2eio.jax, lambda: e2eio.batches.frameworks.framework_named('jax')):\n"
        "    try:\n"
        "        load()\n"
        "    except e2eio.errors.MissingDependencyError as error:\n"
        "        assert 'e2eio[jax]' in str(error), error\n"
        "    else:\n"
        "        raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
