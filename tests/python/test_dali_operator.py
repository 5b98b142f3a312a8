"""The native operator against the plain loader: built once, in the user's cache, for all tests."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import e2eio
from e2eio import transforms as t
from e2eio.errors import ConfigError, MissingDependencyError, StaleBatchError
from e2eio.schema import Channel, ImageField, ScalarField, Schema

pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from e2eio import dali
from e2eio.cli.main import main
from e2eio.dali import operator as operator_module
from e2eio.dali.binding import fn, pipeline_def
from e2eio.dali.plugin import FILE_NAME, cached_operator

pytestmark = pytest.mark.timeout(900)  # the first test waits for the build

N, C, H, W, BATCH = 53, 4, 40, 40, 8
N_BATCHES = 7

Batches = list[tuple[NDArray[Any], ...]]


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
    out = tmp_path_factory.mktemp("operator") / "ds"
    rng = np.random.default_rng(3)
    x = np.where(rng.random((N, C, H, W)) < 0.05, 20 * rng.exponential(size=(N, C, H, W)), 0.0)
    channels = tuple(Channel(name, "GeV") for name in ("track_pt", "ecal", "hcal", "bpix1"))
    scalars = (ScalarField("y", "int64", ""), ScalarField("pt", "float32", "GeV"))
    with e2eio.write(out, Schema(ImageField("X", channels, H, W), scalars)) as writer:
        pt = rng.random(N).astype(np.float32)
        writer.append(x.astype(np.float32), {"y": np.arange(N) % 2, "pt": pt})
    return out


def loader(path: Path, **options: Any) -> e2eio.Loader:
    fields = options.pop("fields", ("y", "X", "sample_id", "pt"))
    return e2eio.Loader(
        path, batch_size=BATCH, framework="numpy", fields=fields, threads=2, **options
    )


def pipe_of(
    given: e2eio.Loader, *, checkpoint: Any = None, checkpointed: bool = False, **options: Any
) -> Any:
    @pipeline_def(  # type: ignore[untyped-decorator]
        batch_size=BATCH,
        num_threads=2,
        device_id=None,
        enable_checkpointing=checkpointed,
        checkpoint=checkpoint,
    )
    def graph() -> Any:
        return dali.reader(given, **options)

    pipe = graph()
    pipe.build()
    return pipe


def epoch_of(pipe: Any) -> Iterator[tuple[NDArray[Any], ...]]:
    while True:
        try:
            outputs = pipe.run()
        except StopIteration:
            pipe.reset()
            return
        yield tuple(np.array(output.as_tensor()) for output in outputs)


def assert_same(found: Any, expected: Any) -> None:
    found, expected = list(found), [tuple(np.array(x) for x in batch) for batch in expected]
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            assert a.tobytes() == b.tobytes()


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
        assert_same(epoch_of(pipe), given)


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
        assert_same(
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
        assert_same(full, expected)
        n = len(last)
        assert (len(images), n) == (BATCH, N % BATCH)
        assert_same([(images[:n], ids[:n])], [(last, last_ids)])
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
        assert_same(((b[0]["X"].numpy().copy(), b[0]["y"].numpy().copy()) for b in batches), given)


def test_iterator_without_a_size_ends_with_the_epoch(operator: Path, path: Path) -> None:
    from nvidia.dali.plugin.pytorch import DALIGenericIterator

    given = loader(path, fields=("X", "y"), shuffle=True)
    batches = DALIGenericIterator(pipe_of(given), ["X", "y"], auto_reset=True)
    for _ in range(2):
        assert_same(((b[0]["X"].numpy().copy(), b[0]["y"].numpy().copy()) for b in batches), given)


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
    assert_same(((np.array(images.as_tensor()),) for images in held), ((x,) for x, _ in given))


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
        assert_same(found, given)


def test_the_plain_operator_takes_paths(operator: Path, path: Path) -> None:
    dali.load_operator()

    @pipeline_def(batch_size=BATCH, num_threads=1, device_id=None)  # type: ignore[untyped-decorator]
    def graph() -> Any:
        return fn.e2eio.reader(paths=[str(path / "shard-00000.e2e")], threads=2)

    assert_same(epoch_of(graph()), loader(path, fields=("X",)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": [9]}, "channel 9, expected less than 4"),
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
    assert_same(epoch_of(pipe), loader(path, shuffle=True, exclude=[0, 5]))
    with pytest.raises(ConfigError, match="no select, exclude"):
        pipe_of(given, cycle="quiet")


def test_without_the_operator_the_source_takes_its_place_with_one_warning(path: Path) -> None:
    program = f"""
        import warnings
        import numpy as np
        import e2eio
        from e2eio import dali
        from e2eio.dali.binding import pipeline_def
        from e2eio.errors import MissingDependencyError

        given = e2eio.Loader({str(path)!r}, batch_size=8, framework="numpy", fields=("X", "y"))

        def pipe_of(**options):
            @pipeline_def(batch_size=8, num_threads=1, device_id=None)
            def graph():
                return dali.reader(given, **options)
            pipe = graph()
            pipe.build()
            return pipe

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pipe = pipe_of()
            pipe_of()
        print(*(each.message for each in caught if "operator" in str(each.message)), sep="\\n")
        found = [np.array(pipe.run()[0].as_tensor()) for _ in range({N_BATCHES})]
        ours = e2eio.Loader({str(path)!r}, batch_size=8, framework="numpy", fields=("X", "y"))
        assert all((a == b).all() for a, (b, _) in zip(found, ours, strict=True))
        try:
            pipe_of(cycle="quiet")
        except MissingDependencyError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "E2EIO_DALI_OPERATOR": "/nowhere/op.so"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    warned, refused = done.stdout.splitlines()
    message = "native DALI operator is not built: /nowhere/op.so: no such file; build it once with 'e2eio build-dali-op'"
    assert warned.startswith(f"{message}; e2eio.dali.source takes its place")
    assert refused == message


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


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        ("stop_token", "compiler is too old"),
        ("zstd.h", "zstd.h is missing"),
        ("cuda_runtime.h", "CUDA's headers are missing"),
        ("", "does not build: compiling"),
    ],
)
def test_what_is_missing_for_the_build_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refused: str,
    message: str,
) -> None:
    compiler = tmp_path / "cxx"
    fails = f'grep -q "{refused}" && exit 1; exit 0' if refused else "exit 0"
    compiler.write_text(
        f'#!/bin/sh\ncase "$*" in *-fsyntax-only*) {fails};; esac\necho "x.cpp: error: no" >&2; exit 1\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert main(["build-dali-op", "--quiet", "--output", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert [each.name for each in tmp_path.glob("out/*")] == []


def test_no_compiler_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main(["build-dali-op", "--quiet", "--output", str(tmp_path)]) == 1
    assert "no C++ compiler: looked for no-such-compiler" in capsys.readouterr().err


def test_operator_that_is_there_is_not_built_again(
    operator: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main(["build-dali-op"]) == 0
    assert capsys.readouterr().out == f"already built: {operator}\n"
    assert operator == cached_operator()
