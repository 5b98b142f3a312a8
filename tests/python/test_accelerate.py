from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import e2eio
from e2eio.schema import Channel, ImageField, ScalarField, Schema

pytest.importorskip("accelerate")

N = 100

PROGRAM = """
import json, sys
import torch
import e2eio
from accelerate import Accelerator

path, out = sys.argv[1:3]
accelerator = Accelerator(cpu=True)

class Run:
    def __init__(self):
        torch.manual_seed(0)
        self.loader = e2eio.Loader(
            path, batch_size=8, shuffle=True, seed=3, fields=("X", "y", "sample_id")
        )
        net = torch.nn.Linear(2 * 16 * 16, 1)
        self.model, self.optimizer, self.prepared = accelerator.prepare(
            net, torch.optim.Adam(net.parameters()), self.loader
        )
        self.seen = []

    def epoch(self, save_at=None):
        for i, (images, labels, ids) in enumerate(self.prepared):
            logits = self.model(images.flatten(1))[:, 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels % 2)
            accelerator.backward(loss)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.seen.append(ids.tolist())
            if i + 1 == save_at:
                accelerator.save_state(f"{out}/state")

    def digest(self):
        return [p.detach().numpy().tobytes().hex() for p in self.model.parameters()]

run = Run()
accelerator.register_for_checkpointing(run.loader)
run.epoch()
run.epoch(save_at=3)
run.epoch()
found = {
    "same": run.prepared is run.loader,
    "place": [accelerator.process_index, accelerator.num_processes],
    "length": len(run.loader),
    "seen": run.seen,
    "digest": run.digest(),
}
whole = run.digest()
seen = run.seen
run.seen = []
accelerator.wait_for_everyone()
accelerator.load_state(f"{out}/state")  # into the same objects, as a restarted script makes them
run.epoch()
run.epoch()
found["exact"] = run.seen == seen[len(run.loader) + 3 :] and run.digest() == whole
with e2eio.Loader(path, batch_size=8, fields=("X", "sample_id")) as held_out:
    ids = [accelerator.gather(ids).tolist() for _, ids in accelerator.prepare(held_out)]
found["gathered"] = sum(ids, [])

from accelerate import skip_first_batches

drop_in = accelerator.prepare(e2eio.DataLoader(e2eio.Dataset(path), batch_size=10))
found["rebuilt"] = [batch["y"].int().tolist() for batch in drop_in]
skipped = skip_first_batches(drop_in, 2)
found["skipped"] = [batch["y"].int().tolist() for batch in skipped]
json.dump(found, open(f"{out}/rank{accelerator.process_index}.json", "w"))
accelerator.end_training()
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(5)
    images = np.where(rng.random((N, 2, 16, 16)) < 0.1, rng.normal(size=(N, 2, 16, 16)), 0.0)
    out = tmp_path_factory.mktemp("accelerate") / "ds"
    channels = (Channel("a", "GeV"), Channel("b", "GeV"))
    schema = Schema(ImageField("X", channels, 16, 16), (ScalarField("y", "float32", ""),))
    with e2eio.write(out, schema) as writer:
        writer.append(images.astype(np.float32), {"y": np.arange(N, dtype=np.float32)})
    return out


def run(path: Path, out: Path, n_processes: int) -> list[dict[str, Any]]:
    (out / "program.py").write_text(PROGRAM)
    (out / "hosts").write_text(f"localhost slots={n_processes}\n")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu"]
    command += ["--num_processes", str(n_processes), "--num_machines", "1"]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    if n_processes > 1:  # on CPUs, Accelerate leaves the start of several processes to mpirun
        command += ["--mpirun_hostfile", str(out / "hosts")]
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(
        [*command, str(out / "program.py"), str(path), str(out)],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, **root, "PATH": binaries, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    files = [out / f"rank{rank}.json" for rank in range(n_processes)]
    return [json.loads(file.read_text()) for file in files]


@pytest.mark.parametrize("n_processes", [1, 2])
def test_ranks_share_the_samples_and_resume_exactly(
    path: Path, tmp_path: Path, n_processes: int
) -> None:
    ranks = run(path, tmp_path, n_processes)
    assert [rank["place"] for rank in ranks] == [[i, n_processes] for i in range(n_processes)]
    length = -(-N // (8 * n_processes))
    for epoch in range(3):
        part = slice(epoch * length, (epoch + 1) * length)
        parts: list[list[int]] = [list(chain(*rank["seen"][part])) for rank in ranks]
        assert {len(ids) for ids in parts} == {N // n_processes}
        assert sorted(chain(*parts)) == list(range(N))
    for rank in ranks:
        assert rank["same"], "Accelerate rebuilt the loader"
        assert rank["length"] == length
        assert rank["exact"]
        assert rank["digest"] == ranks[0]["digest"]
        assert sorted(rank["gathered"]) == list(range(N))
        assert rank["skipped"] == rank["rebuilt"][2:]
    rebuilt = list(chain(*(chain(*rank["rebuilt"]) for rank in ranks)))
    assert sorted(rebuilt) == list(range(N)), "e2eio.DataLoader, taken apart by Accelerate"
