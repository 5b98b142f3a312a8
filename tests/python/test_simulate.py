from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import e2eio
from e2eio.errors import ConfigError, E2eioError, ShardExistsError
from e2eio.presets import recognise
from e2eio.sim import simulate
from e2eio.sim.plan import SimulationOptions, make_simulation_plan, shard_seeds

for package in ("pythia8mc", "fastjet"):
    pytest.importorskip(package, reason=f"package {package} of the extra 'sim' is missing")

from e2eio.sim import jets  # noqa: E402
from e2eio.sim.generator import Collision, collisions  # noqa: E402

# Without pile-up there is no pool to fill: the fewest seconds a shard.
QUICK: dict[str, Any] = {"pileup": 0.0, "processes": 1, "progress": False}
COMMAND = [sys.executable, "-m", "e2eio", "simulate"]


def shards_in(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.e2e"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The shards of a simulation in one go: 7 jets in two shards."""
    out = tmp_path_factory.mktemp("whole") / "d"
    simulate("top", out, n=7, seed=5, shard_samples=4, **QUICK)
    return shards_in(out)


def run_again(out: Path, **options: Any) -> None:
    simulate("top", out, n=7, seed=5, shard_samples=4, **{**QUICK, **options})


def test_shards_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    run_again(tmp_path / "d", processes=2)
    assert shards_in(tmp_path / "d") == whole
    assert len(whole) == 2
    assert len(set(whole.values())) == 2


def test_classes_are_balanced_and_fields_are_those_of_the_preset(tmp_path: Path) -> None:
    content = simulate("quark-gluon", tmp_path / "d", n=9, seed=1, **QUICK)
    assert content.n_samples == 9
    assert [channel.name for channel in content.schema.image.channels] == [
        "track_pt",
        "ecal",
        "hcal",
    ]
    image = content.schema.image
    names = [field.name for field in content.schema.scalars]
    found = recognise(image.name, names, image.shape)
    assert found is not None
    assert found.name == "quark-gluon"
    (batch,) = e2eio.Loader(tmp_path / "d", batch_size=9, shuffle=False)
    assert sorted(np.asarray(batch["y"]).tolist()) == [0] * 5 + [1] * 4
    assert (np.asarray(batch["pt"]) > 70).all()
    assert (np.asarray(batch["m0"]) > 0).all()
    assert (np.asarray(batch["X_jets"])[:, 1:].sum((2, 3)) > 0).all()
    assert content.provenance.options["operation"] == "simulate"
    assert content.provenance.options["seed"] == 1


def test_a_complete_simulation_is_not_run_again_and_others_are_refused(
    tmp_path: Path, whole: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "d"
    out.mkdir()
    for name, content in whole.items():
        (out / name).write_bytes(content)
    run_again(out)
    inodes = [path.stat().st_ino for path in sorted(out.iterdir())]
    run_again(out, progress=True)
    assert "already simulated" in capsys.readouterr().err
    assert [path.stat().st_ino for path in sorted(out.iterdir())] == inodes
    with pytest.raises(ShardExistsError, match="target exists"):
        simulate("top", out, n=7, seed=6, shard_samples=4, **QUICK)
    assert shards_in(out) == whole


def test_a_run_goes_on_from_the_shards_that_are_complete(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    out = tmp_path / "d"
    out.mkdir()
    names = list(whole)
    (out / names[0]).write_bytes(whole[names[0]])
    (out / names[1]).write_bytes(whole[names[1]][:-1])  # cut short
    kept = (out / names[0]).stat().st_ino
    run_again(out)
    assert shards_in(out) == whole
    assert (out / names[0]).stat().st_ino == kept
    assert len(e2eio.Dataset(out)) == 7


def test_a_generator_that_fails_leaves_no_dataset_and_the_next_run_goes_on(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = 0

    def failing(settings: Sequence[str], seed: int) -> Iterator[Collision]:
        nonlocal streams
        streams += 1
        if streams > 2:  # the second shard's
            raise E2eioError("Pythia gives no more events")
        yield from collisions(settings, seed)

    out = tmp_path / "d"
    with monkeypatch.context() as patch, pytest.raises(E2eioError, match="no more events"):
        patch.setattr(jets, "collisions", failing)
        run_again(out)
    assert sorted(path.name for path in out.iterdir()) == ["shard-00000.e2e.kept"]
    run_again(out)
    assert shards_in(out) == whole
    assert not list(out.glob("*.kept"))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_simulation_that_is_stopped_keeps_complete_shards(
    sent: signal.Signals, tmp_path: Path
) -> None:
    out = tmp_path / "d"
    options = ["--n", "400", "--shard-samples", "4", "--pileup", "0", "--processes", "1"]
    process = subprocess.Popen(
        [*COMMAND, "top", str(out), *options], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (out / "shard-00000.e2e").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if sent == signal.SIGINT else -signal.SIGKILL)
    if sent == signal.SIGINT:
        assert "run the same command again to go on" in errors
    complete = shards_in(out)
    assert "shard-00000.e2e" in complete
    assert not (out / "dataset.json").exists()
    plan = make_simulation_plan(SimulationOptions("top", 400, pileup=0.0, shard_samples=4))
    for path in sorted(out.glob("*.e2e")):
        reader = e2eio.Dataset([path]).readers[0]
        assert reader.digest.partition("-")[2] in {task.shard_id.hex() for task in plan.tasks}


def test_a_worker_that_crashes_is_named_with_its_jets_and_the_next_run_goes_on(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "if '--multiprocessing-fork' in sys.orig_argv:\n"
        "    from e2eio.sim import generator, jets\n"
        "    streams = []\n"
        "    def crashing(settings, seed):\n"
        "        streams.append(seed)\n"
        "        if len(streams) > 2:\n"  # the second shard's
        "            os.kill(os.getpid(), signal.SIGSEGV)\n"
        "        yield from generator.collisions(settings, seed)\n"
        "    jets.collisions = crashing\n"
    )
    program = (
        "from e2eio.production import Crew\n"
        "from e2eio.sim import production, simulate\n"
        "production.Crew = lambda processes: Crew(processes, isolate=True)\n"
        f"simulate('top', {str(tmp_path / 'd')!r}, n=7, seed=5, shard_samples=4, pileup=0.0, "
        "processes=1, progress=False)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    found = "simulation crashed: shard-00001.e2e: found SIGSEGV while its process was simulating"
    assert f"{found} jet 3 of 7" in done.stderr
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["shard-00000.e2e.kept"]
    run_again(tmp_path / "d")
    assert shards_in(tmp_path / "d") == whole


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import resource\n"
        "from e2eio.errors import ShardIOError\n"
        "from e2eio.sim import simulate\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000))\n"  # of some 20 kB
        "try:\n"
        f"    simulate('top', {str(tmp_path / 'd')!r}, n=4, pileup=0.0, processes=1, progress=False)\n"
        "except ShardIOError as error:\n"
        "    print(error.errno, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.startswith(f"{errno.EFBIG} cannot write"), done.stderr
    assert "shard-00000.e2e" in done.stdout
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "wrong n: found 0, expected an integer from 1 to"),
        ({"n": 1.5}, "wrong n: found 1.5"),
        ({"seed": -1}, "wrong seed: found -1, expected an integer from 0 to 9223372036854775807"),
        ({"resolution": 2}, "wrong resolution: found 2, expected 1, 3 or 5"),
        ({"pileup": -1.0}, "wrong pileup: found -1.0, expected a number from 0 to 200"),
        ({"pileup": float("nan")}, "wrong pileup: found nan"),
        ({"shard_samples": 1}, "wrong shard_samples: found 1, expected an integer from 2 to"),
        ({"compression_level": 20}, "expected an integer from 1 to 19"),
        ({"processes": 0}, "wrong number of processes: found 0"),
    ],
)
def test_options_out_of_range_are_refused_with_the_range(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        simulate("top", tmp_path / "d", **{"n": 4, **QUICK, **options})
    assert not (tmp_path / "d").exists()


def test_an_unknown_process_and_a_remote_target_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown process: found 'higgs'"):
        simulate("higgs", tmp_path / "d", n=4, **QUICK)
    with pytest.raises(ConfigError, match="remote target"):
        simulate("top", "s3://bucket/d", n=4, **QUICK)


def test_the_command_prints_nothing_but_its_result(tmp_path: Path) -> None:
    options = ["--n", "3", "--seed", "2", "--pileup", "0", "--processes", "1", "--quiet", "--json"]
    command = [*COMMAND, "top", str(tmp_path / "d"), *options, "--resolution", "3"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    result = json.loads(done.stdout)
    assert (result["n_samples"], result["n_shards"]) == (3, 1)
    assert e2eio.Dataset(tmp_path / "d").schema.image.shape == (8, 375, 375)
    assert done.stderr == ""


def test_seeds_of_shards_differ_and_sizes_add_up() -> None:
    plan = make_simulation_plan(SimulationOptions("top", 5001, seed=3))
    assert sum(task.n_samples for task in plan.tasks) == 5001
    assert len({task.shard_id for task in plan.tasks}) == len(plan.tasks)
    states = {tuple(shard_seeds(3, task.index).generate_state(2)) for task in plan.tasks}
    assert len(states) == len(plan.tasks)


def test_without_pythia_the_command_says_how_to_get_it_and_makes_nothing(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['pythia8mc'] = None\n"
        "from e2eio.cli.main import main\n"
        f"sys.exit(main(['simulate', 'top', {str(tmp_path / 'd')!r}, '--n', '4']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("e2eio: package pythia8mc is missing")
    assert "pip install 'e2eio[sim]'" in done.stderr
    assert not (tmp_path / "d").exists()
