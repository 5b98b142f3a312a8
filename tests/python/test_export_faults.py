"""Exports that the system refuses or the user ends: one line, and no file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import e2eio
from e2eio.schema import Channel, ImageField, ScalarField, Schema

ENDINGS = ("parquet", "h5", "tfrecord", "npz")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "data"
    schema = Schema(
        ImageField("X", (Channel("a"), Channel("b")), 8, 8), (ScalarField("y", "int64"),)
    )
    images = np.random.default_rng(1).random((300, 2, 8, 8), np.float32)
    with e2eio.write(folder, schema) as writer:
        writer.append(images, {"y": np.arange(300)})
    return folder


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.parametrize("ending", ENDINGS)
def test_full_disk(path: Path, tmp_path: Path, ending: str) -> None:
    for form in ("sparse", "dense"):
        for compression in ("auto", "none"):
            out = tmp_path / f"{form}-{compression}" / f"jets.{ending}"
            options = ["--form", form, "--compression", compression, "--quiet"]
            done = run(
                "import resource, sys\n"
                "from e2eio.cli import main\n"
                "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
                f"sys.exit(main({['export', str(path), str(out), *options]!r}))\n"
            )
            assert done.returncode == 1, done.stderr
            assert done.stderr.startswith(f"e2eio: cannot write: {out}: "), done.stderr
            assert done.stderr.count("\n") == 1
            assert not [*out.parent.iterdir()]


def test_ctrl_c_while_libhdf5_writes(path: Path, tmp_path: Path) -> None:
    # Raised within libhdf5's own call, it would leave that with half of its structures: a crash.
    done = run(
        "import os, signal, e2eio\n"
        "from e2eio.exporters import hdf5\n"
        "write = hdf5._PatientFile.write\n"
        "def interrupted(file, data):\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    return write(file, data)\n"
        "hdf5._PatientFile.write = interrupted\n"
        "try:\n"
        f"    e2eio.export({str(path)!r}, {str(tmp_path / 'jets.h5')!r}, progress=False)\n"
        "except KeyboardInterrupt:\n"
        f"    print('interrupted', os.listdir({str(tmp_path)!r}))\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted []\n", "")


def test_no_directory(path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(e2eio.errors.ShardIOError, match="cannot make directory"):
        e2eio.export(path, tmp_path / "file" / "jets.npz", progress=False)
