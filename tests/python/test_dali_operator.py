"""The native operator against the plain loader: built once, in the user's cache, for all tests."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import e2eio
from e2eio import transforms as t
from e2eio.errors import ConfigError, MissingDependencyError, StaleBatchError

pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from dali_toys import BATCH, N_BATCHES, N, assert_same_bits, epoch_of, pipe_of, write_toy
from e2eio import dali
from e2eio.cli.main import main
from e2eio.dali import operator as operator_module
from e2eio.dali.binding import fn, pipeline_def
from e2eio.dali.plugin import FILE_NAME, cached_operator

pytestmark = pytest.mark.timeout(900)  # the first test waits for the build


@pytest.fixture(scope="module")
def operator() -> Path:
    env = dict(os.environ)
    if shutil.which("ccache") and "CXX" not in env:
        env["CXX"] = "ccache c++"
    command = [sys.executable, "-m", "e2eio", "build-dali-op", "--quiet", "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if "headers are missing" in done.stderr or "no C++ compiler" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["path"])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("operator") / "ds")


def loader(path: Path, **options: Any) -> e2eio.Loader:
    fields = options.pop("fields", ("y", "X", "sample_id"))
    return e2eio.Loader(
        path, batch_size=BATCH, framework="numpy", fields=fields, threads=2, **options
    )


def n_threads() -> int:
    gc.collect()
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shuffle": True, "seed": 7},
        {"shuffle": True, "drop_last": True, "fields": ("X",)},
        {"shuffle": True, "rank": 0, "world_size": 3},
        {"shuffle": True, "rank": 2, "world_size": 3},
        {"layout": "NHWC", "dtype": "float16", "channels": ["hcal", "track_pt"]},
        {
            "seed": 3,
            "transforms": (t.Scale({"ecal": 1 / 3}), t.FlipEta(0.5), t.RollPhi(max_shift=5)),
        },
        {"transforms": (t.Rot90(), t.Crop(32, 24)), "fields": ("X", "y")},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_operator_delivers_what_the_loader_does(
    operator: Path, path: Path, options: dict[str, Any]
) -> None:
    given = loader(path, **options)
    pipe = pipe_of(given)
    for _ in range(3):
        assert_same_bits(epoch_of(pipe), given)


@pytest.mark.parametrize("pipelined", [True, False])
def test_older_executors_run_it_in_cycles(operator: Path, path: Path, pipelined: bool) -> None:
    given = loader(path, fields=("X", "sample_id"), shuffle=True)

    @pipeline_def(  # type: ignore[untyped-decorator]
        batch_size=BATCH,
        num_threads=1,
        device_id=None,
        exec_dynamic=False,
        exec_pipelined=pipelined,
        exec_async=pipelined,
    )
    def graph(cycle: Any) -> Any:
        return dali.reader(given, cycle=cycle)

    with pytest.raises(ConfigError, match="exec_dynamic of the pipeline is False"):
        graph("raise")
    pipe = graph("quiet")
    for _ in range(2):
        # Their outputs are valid until the next run.
        assert_same_bits(
            ([np.array(x.as_tensor()) for x in pipe.run()] for _ in range(N_BATCHES)), given
        )


def test_outputs_know_their_layout_and_where_they_come_from(operator: Path, path: Path) -> None:
    images, _ = pipe_of(loader(path, fields=("X", "y"), layout="NHWC")).run()
    assert images.layout() == "HWC"
    assert images.is_dense_tensor()
    assert images[3].source_info() == f"{path}/shard-00000.e2e sample 3"


def test_last_batch_is_filled_with_its_last_sample(operator: Path, path: Path) -> None:
    given = loader(path, fields=("X", "sample_id"))
    pipe = pipe_of(given, fill_last_batch=True)
    for _ in range(3):  # what was filled up is empty again when the slot is used the next time
        *full, (images, ids) = epoch_of(pipe)
        *expected, (last, last_ids) = [tuple(map(np.array, batch)) for batch in given]
        assert_same_bits(full, expected)
        n = len(last)
        assert (len(images), n) == (BATCH, N % BATCH)
        assert_same_bits([(images[:n], ids[:n])], [(last, last_ids)])
        assert (images[n:] == last[-1]).all()
        assert (ids[n:] == last_ids[-1]).all()


@pytest.mark.parametrize("rank", [0, 1])
def test_iterator_with_reader_name_has_a_length_and_the_loaders_batches(
    operator: Path, path: Path, rank: int
) -> None:
    from nvidia.dali.plugin.base_iterator import LastBatchPolicy
    from nvidia.dali.plugin.pytorch import DALIGenericIterator

    given = loader(path, fields=("X", "y"), shuffle=True, rank=rank, world_size=2)
    pipe = pipe_of(given, fill_last_batch=True, cycle="quiet", name="jets")
    batches = DALIGenericIterator(
        pipe,
        ["X", "y"],
        reader_name="jets",
        auto_reset=True,
        last_batch_policy=LastBatchPolicy.PARTIAL,
    )
    assert len(batches) == len(given)
    for _ in range(2):
        assert_same_bits(
            ((b[0]["X"].numpy().copy(), b[0]["y"].numpy().copy()) for b in batches), given
        )


def test_iterator_without_a_size_ends_with_the_epoch(operator: Path, path: Path) -> None:
    from nvidia.dali.plugin.pytorch import DALIGenericIterator

    given = loader(path, fields=("X", "y"), shuffle=True)
    batches = DALIGenericIterator(pipe_of(given), ["X", "y"], auto_reset=True)
    for _ in range(2):
        assert_same_bits(
            ((b[0]["X"].numpy().copy(), b[0]["y"].numpy().copy()) for b in batches), given
        )


@pytest.mark.parametrize("options", [{}, {"cycle": "quiet", "fill_last_batch": True}])
def test_checkpoint_goes_on_where_it_was_taken(
    operator: Path, path: Path, options: dict[str, Any]
) -> None:
    def make(checkpoint: Any = None) -> Any:
        return pipe_of(given, checkpoint=checkpoint, checkpointed=True, **options)

    def ids(pipe: Any, n: int) -> list[Any]:
        found: list[Any] = []
        while len(found) < n:
            with suppress(StopIteration):
                found.append(np.array(pipe.run()[1].as_tensor()).tolist())
                continue
            found.append("end of epoch")
            pipe.reset()
        return found

    given = loader(path, fields=("X", "sample_id"), shuffle=True, seed=5)
    expected = ids(make(), 20)
    for n in (0, 1, 3, N_BATCHES - 1, N_BATCHES, N_BATCHES + 3):
        first = make()
        assert ids(first, n) == expected[:n]
        assert ids(make(first.checkpoint()), 6) == expected[n : n + 6]


def test_checkpoint_of_another_plan_is_refused(operator: Path, path: Path) -> None:
    pipe = pipe_of(loader(path, shuffle=True, seed=1), checkpointed=True)
    pipe.run()
    with pytest.raises((ConfigError, RuntimeError), match="checkpoint of another plan"):
        pipe_of(loader(path, shuffle=True), checkpointed=True, checkpoint=pipe.checkpoint())


def test_corrupt_record_is_named_and_ends_the_pipeline(
    operator: Path, path: Path, tmp_path: Path
) -> None:
    shutil.copytree(path, tmp_path / "ds")
    shard = tmp_path / "ds" / "shard-00000.e2e"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0x55
    shard.write_bytes(content)
    before = n_threads()
    pipe = pipe_of(loader(tmp_path / "ds"))
    delivered = 0
    with pytest.raises(RuntimeError, match=rf"corrupt record: {shard} sample \d+") as caught:
        for _ in epoch_of(pipe):
            delivered += 1
    assert 0 < delivered < N_BATCHES
    with pytest.raises(RuntimeError, match="corrupt record"):
        pipe.run()
    del pipe, caught
    assert n_threads() == before


def test_pipelines_can_be_made_again_and_again_and_leave_no_thread(
    operator: Path, path: Path
) -> None:
    given = loader(path)
    pipe_of(given).run()
    before = n_threads()
    for n in range(8):
        pipe = pipe_of(given)
        for _ in range(n):
            pipe.run()
        del pipe
    assert n_threads() == before


def test_batches_that_are_held_stay_what_they_were(operator: Path, path: Path) -> None:
    given = loader(path, fields=("X", "y"))
    pipe = pipe_of(given)
    held = [pipe.run()[0] for _ in range(N_BATCHES)]
    del pipe
    gc.collect()
    assert_same_bits(((np.array(images.as_tensor()),) for images in held), ((x,) for x, _ in given))


def test_images_are_not_copied_and_writing_into_them_is_noticed(operator: Path, path: Path) -> None:
    pipe = pipe_of(loader(path, fields=("X",)))
    with pytest.raises((StaleBatchError, RuntimeError), match="written into"):
        for _ in range(10):
            for _ in range(N_BATCHES):
                (images,) = pipe.run()
                torch.utils.dlpack.from_dlpack(images.as_tensor()).fill_(1.0)
                del images
            with pytest.raises(StopIteration):
                pipe.run()
            pipe.reset()


def test_writable_batches_may_be_written_into(operator: Path, path: Path) -> None:
    given = loader(path, fields=("X",), writable=True)
    pipe = pipe_of(given)
    for _ in range(3):
        found = []
        for _ in range(N_BATCHES):
            (images,) = pipe.run()
            found.append((np.array(images.as_tensor()),))
            torch.utils.dlpack.from_dlpack(images.as_tensor()).fill_(1.0)
        with pytest.raises(StopIteration):
            pipe.run()
        pipe.reset()
        assert_same_bits(found, given)


def test_the_plain_operator_takes_paths(operator: Path, path: Path) -> None:
    dali.load_operator()

    @pipeline_def(batch_size=BATCH, num_threads=1, device_id=None)  # type: ignore[untyped-decorator]
    def graph() -> Any:
        return fn.e2eio.reader(paths=[str(path / "shard-00000.e2e")], threads=2)

    assert_same_bits(epoch_of(graph()), loader(path, fields=("X",)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": [9]}, "channel 9, expected less than 5"),
        ({"fields": ["mass"]}, "fields has 'mass'"),
        ({"paths": []}, "no shards"),
        ({"layout": "NCHW"}, "layout is 'NCHW', expected 'HWC' or 'CHW'"),
        ({"transforms": ["scale x"]}, "transform 'scale x'"),
        ({"rank": -1}, "rank is -1"),
    ],
)
def test_wrong_arguments_of_the_operator_are_named(
    operator: Path, path: Path, options: dict[str, Any], message: str
) -> None:
    dali.load_operator()

    @pipeline_def(batch_size=BATCH, num_threads=1, device_id=None)  # type: ignore[untyped-decorator]
    def graph() -> Any:
        nodes = fn.e2eio.reader(**{"paths": [str(path / "shard-00000.e2e")], **options})
        return tuple(nodes) if isinstance(nodes, list) else nodes

    with pytest.raises((RuntimeError, ValueError), match=message):
        graph().build()


def test_wrong_use_of_the_reader_is_named(operator: Path, path: Path) -> None:
    given = loader(path)
    with pytest.raises(ConfigError, match="no pipeline here"):
        dali.reader(given)
    with pytest.raises(ConfigError, match="expected form='dense'"):
        pipe_of(loader(path, form="coo", fields=("X",)))
    with pytest.raises(ConfigError, match="cycle is 'no'"):
        pipe_of(given, cycle="no")
    with pytest.raises(
        ConfigError, match="batch_size of the pipeline is 8; expected the loader's, 4"
    ):
        pipe_of(e2eio.Loader(path, batch_size=4, framework="numpy"))


def test_orders_that_the_operator_does_not_know_come_through_the_source(
    operator: Path, path: Path
) -> None:
    given = loader(path, shuffle=True, exclude=[0, 5])
    with pytest.warns(UserWarning, match="no select, exclude"):
        pipe = pipe_of(given)
    assert_same_bits(epoch_of(pipe), loader(path, shuffle=True, exclude=[0, 5]))
    with pytest.raises(ConfigError, match="no select, exclude"):
        pipe_of(given, cycle="quiet")


def test_operator_of_another_version_is_not_loaded(
    operator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator_module, "_loaded", [])
    shutil.copy(operator, tmp_path / FILE_NAME)
    with pytest.raises(MissingDependencyError, match=r"another one's: .*found None"):
        dali.load_operator(tmp_path)
    record = json.loads(operator.with_name("build.json").read_text())
    (tmp_path / "build.json").write_text(json.dumps({**record, "dali": "1.0"}))
    with pytest.raises(MissingDependencyError, match=r"found .*dali='1\.0'.*build it again"):
        dali.load_operator(tmp_path)


def test_operator_is_found_where_the_environment_says(operator: Path, tmp_path: Path) -> None:
    for name in (FILE_NAME, "build.json"):
        shutil.copy(operator.with_name(name), tmp_path / name)
    program = "from e2eio import dali; print(dali.load_operator()); from nvidia.dali import fn; fn.e2eio.reader"
    env = {**os.environ, "E2EIO_DALI_OPERATOR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / FILE_NAME}\n"), done.stderr


def test_operator_that_is_there_is_not_built_again(
    operator: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main(["build-dali-op"]) == 0
    assert capsys.readouterr().out == f"already built: {operator}\n"
    assert operator == cached_operator()
