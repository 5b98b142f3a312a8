"""Bad input, interrupts, and what is missing: errors of e2eio.dali."""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import e2eio
from e2eio import transforms as t
from e2eio.errors import ConfigError, CorruptShardError, MissingDependencyError

pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from dali_toys import BATCH, N_BATCHES, H, W, apply, batches_of, same_batches, write_toy
from e2eio import dali
from e2eio.dali.binding import check_version, fn, pipeline_def


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("dali") / "ds")


def test_a_corrupt_record_is_named_after_the_batches_before_it(path: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "ds"
    damaged.mkdir()
    for file in path.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    shard = next(damaged.glob("*.e2e"))
    data = bytearray(shard.read_bytes())
    data[64 + int(e2eio.Dataset(path).readers[0].record_sizes()[:29].sum()) + 20] ^= 4
    shard.write_bytes(data)
    batches = dali.iterator(damaged, batch_size=BATCH, fields=("X", "y"))
    found = []
    with pytest.raises(CorruptShardError, match=shard.name) as caught:
        for batch in batches:
            found.append(batch[1].tolist())  # noqa: PERF401
    assert found == [list(map(float, range(i, i + 8))) for i in (0, 8, 16)]
    assert caught.value.sample == 29
    # The pipeline has ended the epoch and can begin another, which fails in the same way.
    with pytest.raises(CorruptShardError):
        list(batches)
    batches.close()


def test_an_interrupt_loses_no_batch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take, interrupts = dali.Source._take, [0, 3, 5]

    def interrupted(self: dali.Source, epoch: int, index: int) -> Any:
        if interrupts and index == interrupts[0]:
            interrupts.pop(0)
            raise KeyboardInterrupt
        return take(self, epoch, index)

    monkeypatch.setattr(dali.Source, "_take", interrupted)
    batches = dali.iterator(path, batch_size=BATCH, fields=("X", "y"), augment=(lambda x, _: x,))
    found: list[Any] = []
    for _ in range(N_BATCHES + 3):
        with contextlib.suppress(KeyboardInterrupt):
            found.append(next(batches))
    assert interrupts == []
    assert same_batches(found, batches_of(e2eio.Loader(path, batch_size=BATCH, fields=("X", "y"))))


def test_the_process_ends_in_the_middle_of_an_epoch(path: Path) -> None:
    program = (
        "import sys; from e2eio import dali\n"
        "batches = dali.iterator(sys.argv[1], batch_size=2, augment=(lambda x, _: x * 2.0,))\n"
        "print(len(next(iter(batches))['y']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == ["2"]


def test_without_a_gpu_the_message_says_what_to_do(path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=r"device is 'gpu'.*pass device='cpu'"):
        dali.pipeline(path, batch_size=BATCH, device="gpu")


def test_the_gpu_is_torchs_current_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchrun's ranks choose it: not the first one for all of them."""
    asked: list[Any] = []

    def noting(pipe: Any) -> Any:
        asked.append(pipe.device_id)
        return pipe

    monkeypatch.setattr("e2eio.dali.graph.build", noting)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    dali.pipeline(path, batch_size=BATCH, device="gpu")
    dali.pipeline(path, batch_size=BATCH, device="gpu", device_id=1)
    assert asked == [3, 1]


@pytest.mark.parametrize("version", ["1.51.2", "0.30", "nonsense"])
def test_an_old_dali_is_refused(version: str) -> None:
    with pytest.raises(MissingDependencyError, match="too old"):
        check_version(version)


@pytest.mark.parametrize(
    ("raised", "text"),
    [
        (ModuleNotFoundError("No module named 'nvidia.dali'"), "pip install"),
        (ImportError("libcudart.so.13: cannot open"), "has to fit the CUDA"),
    ],
)
def test_without_dali_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, raised: ImportError, text: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("e2eio.dali.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "nvidia.dali")

    class Refuse:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "nvidia.dali":
                raise raised

    monkeypatch.setattr(sys, "meta_path", [Refuse(), *sys.meta_path])
    with pytest.raises(MissingDependencyError, match=text):
        importlib.import_module("e2eio.dali.binding")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dtype": "bfloat16"}, "dtype is 'bfloat16'"),
        ({"layout": "NCHW"}, "layout is 'NCHW'"),
        ({"device": "cuda"}, "device is 'cuda'"),
        ({"last_batch_policy": "wrap"}, "last_batch_policy"),
        ({"batch_size": None}, "batch_size is None"),
        ({"normalise": "nothing"}, "unknown preset"),
        ({"augment": (3,)}, "augment holds 3"),
        ({"augment": (t.Crop(50, 50),)}, "50"),
        ({"augment": (t.RollPhi(), t.DeadCells(0.1, channels=("hcal",), cell=5))}, "cell"),
        ({"checkpoint": [b"", b""]}, "2 parts"),
        ({"prefetch_queue_depth": 0}, "prefetch_queue_depth is 0"),
    ],
    ids=str,
)
def test_bad_arguments(path: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        dali.pipeline(path, **{"batch_size": BATCH, **options})


def test_bad_sources_and_pipelines(path: Path) -> None:
    with pytest.raises(ConfigError, match="form is 'coo'"):
        dali.source(e2eio.Loader(path, batch_size=2, form="coo"))
    with pytest.raises(ConfigError, match="dtype is 'bfloat16'"):
        dali.source(e2eio.Loader(path, batch_size=2, dtype="bfloat16"))
    with pytest.raises(ConfigError, match=r"expected an e2eio\.Loader"):
        dali.source([1, 2])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="leave it out"):
        dali.pipeline(e2eio.Loader(path, batch_size=2), batch_size=3)
    with pytest.raises(ConfigError, match="float32 in NCHW"):
        dali.pipeline(e2eio.Loader(path, batch_size=2, layout="NHWC"))
    for said in ({"shuffle": True}, {"seed": 3}, {"rank": 0, "world_size": 2}, {"fields": ("X",)}):
        with pytest.raises(ConfigError, match=f"{', '.join(said)} given with a Loader"):
            dali.iterator(e2eio.Loader(path, batch_size=2), **said)
    with pytest.raises(ConfigError, match="drop_last=True"):
        dali.pipeline(e2eio.Loader(path, batch_size=2), last_batch_policy="drop")
    with pytest.raises(ConfigError, match="max_shift is 41"):
        apply(np.zeros((1, 1, H, W), np.float32), dali.roll_phi, max_shift=41)
    with pytest.raises(ConfigError, match="no pipeline here"):
        dali.inputs(dali.source(e2eio.Loader(path, batch_size=2)))
    pipe = dali.pipeline(path, batch_size=2, enable_checkpointing=False)
    with pytest.raises(ConfigError, match="given with a pipeline"):
        dali.iterator(pipe, dtype="float16")
    with pytest.raises(ConfigError, match="no checkpoints"):
        dali.iterator(pipe).checkpoints()

    @pipeline_def(batch_size=2, num_threads=1, device_id=None)  # type: ignore[untyped-decorator]
    def foreign() -> Any:
        return fn.random.uniform()

    with pytest.raises(ConfigError, match="does not begin with a loader"):
        dali.iterator(foreign())


def test_importing_the_package_does_not_import_dali() -> None:
    program = "import sys, e2eio.dali; print('nvidia' in sys.modules, callable(e2eio.dali.source))"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["False", "True"]
