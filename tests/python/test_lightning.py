from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import e2eio
from e2eio.schema import Channel, ImageField, ScalarField, Schema

pytest.importorskip("lightning")

N, BATCH = 100, 16
N_BATCHES = 7

# What every program below begins with: a module that notes which samples it sees in which epoch.
PROGRAM = """
import json, logging, os, sys, warnings
import lightning, torch
import e2eio
from e2eio.errors import ConfigError
from e2eio.lightning import DataModule

for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)
warnings.filterwarnings("ignore")
warnings.filterwarnings("error", message="a batch was changed")
path, out = sys.argv[1:3]
FIELDS = ("X", "y", "sample_id")
DATA = dict(batch_size=16, fields=FIELDS)

class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(2 * 16 * 16, 1)
        self.seen, self.validated, self.tested = {}, [], []

    def forward(self, images):
        return self.net(images.flatten(1))[:, 0]

    def training_step(self, batch, batch_idx):
        images, labels, ids = batch
        self.seen.setdefault(self.current_epoch, []).append(ids.tolist())
        loss = torch.nn.functional.binary_cross_entropy_with_logits(self(images), labels)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.validated += batch[2].tolist()
        self.log("size", float(len(batch[2])))

    def test_step(self, batch, batch_idx):
        assert torch.is_inference_mode_enabled()
        self.tested += batch[2].tolist()

    def predict_step(self, batch, batch_idx):
        return batch[2]

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())

    def digest(self):
        return [p.detach().numpy().tobytes().hex() for p in self.parameters()]

class Save(lightning.Callback):
    def __init__(self, *steps):
        self.steps = steps

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step in self.steps:
            trainer.save_checkpoint(f"{out}/step{trainer.global_step}.ckpt")

    def on_train_epoch_end(self, trainer, module):
        trainer.save_checkpoint(f"{out}/epoch{trainer.current_epoch}.ckpt")

def trainer(epochs=3, *callbacks, **options):
    return lightning.Trainer(
        accelerator="cpu", max_epochs=epochs, callbacks=list(callbacks), logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=out, **options,
    )

def model():
    torch.manual_seed(0)
    return Model()
"""

ONE_PROCESS = """
def loader():
    return e2eio.Loader(path, shuffle=True, **DATA)

def module():
    return DataModule(train=path, val=path, test=path, predict=path, **DATA)

found = {"order": []}
for epoch in range(3):
    with loader() as one:
        one.set_epoch(epoch)
        found["order"].append([ids.tolist() for _, _, ids in one])

bare = model()
trainer(3, Save(10, 7)).fit(bare, loader(), e2eio.Loader(path, **DATA))
found["bare"], found["validated"] = bare.seen, bare.validated

whole, data = model(), module()
fit = trainer(3)
fit.fit(whole, data)
found["module"], found["digest"] = whole.seen, whole.digest()
found["same"] = bare.digest() == whole.digest()
try:
    iter(fit.train_dataloader)
except ConfigError as error:
    found["closed"] = str(error)
trainer().test(whole, data, verbose=False)
found["tested"] = whole.tested
found["predicted"] = [ids.tolist() for ids in trainer().predict(whole, data)]

found["resumed"] = {}
for name in ("step7", "step10", "epoch0"):
    for kind, make in (("bare", loader), ("module", module)):
        again = Model()
        trainer(3).fit(again, make(), ckpt_path=f"{out}/{name}.ckpt")
        found["resumed"][f"{name} {kind}"] = [again.seen, again.digest() == whole.digest()]

def drop_in():  # torch's arguments
    generator = torch.Generator().manual_seed(4)
    return e2eio.DataLoader(
        e2eio.Dataset(path), batch_size=16, shuffle=True, generator=generator, fields=("X", "y", "sample_id")
    )

one = model()
trainer(3, Save(9)).fit(one, drop_in())
again = Model()
trainer(3).fit(again, drop_in(), ckpt_path=f"{out}/step9.ckpt")
found["drop-in"] = [one.seen, again.seen, again.digest() == one.digest()]

again = model()
trainer(3, reload_dataloaders_every_n_epochs=1).fit(again, module())
found["reloaded"] = again.seen

class Failing(Model):
    def training_step(self, batch, batch_idx):
        raise ZeroDivisionError

data = module()
kept = []
data.train_dataloader = lambda make=data.train_dataloader: kept.append(make()) or kept[-1]
try:
    trainer().fit(Failing(), data)
except ZeroDivisionError:
    try:
        iter(kept[0])
    except ConfigError as error:
        found["closed after an error"] = str(error)
found["text"] = str(module())
for name, wrong in (
    ("nothing", {}),
    ("no train", {"val": path}),
    ("too much", {"train": path, "val": 0.7, "test": 0.3}),
    ("nothing to split", {"val": 0.5, "test": path}),
    ("train is a number", {"train": 0.5}),
):
    try:
        trainer().fit(model(), DataModule(**wrong, **DATA))
    except ConfigError as error:
        found[name] = str(error)

def ids_of(loader):
    return [number for _, _, ids in loader for number in ids.tolist()]

found["split"] = []
for seed, exclude in ((0, None), (0, [3, 50]), (1, None)):
    data = DataModule(
        train=path, val=0.2, test=0.11, predict=path, split_seed=seed,
        train_options={"exclude": exclude, "batch_size": 7}, **DATA,
    )
    names = ("train", "val", "test", "predict")
    found["split"].append({n: ids_of(getattr(data, n + "_dataloader")()) for n in names})
found["test alone"] = []
for val in (None, 0.05, torch.tensor(0.3).numpy()[()]):
    data = DataModule(train=path, val=val, test=0.11, **DATA)
    found["test alone"].append(ids_of(data.test_dataloader()))
for name, wrong in (("val is empty", {"val": 0.001}), ("train is empty", {"val": 0.5, "test": 0.4999})):
    try:
        DataModule(train=path, **wrong, **DATA).val_dataloader()
    except ConfigError as error:
        found[name] = str(error)
json.dump(found, open(f"{out}/found.json", "w"))
"""

TWO_PROCESSES = """
def run(epochs=2, *callbacks, **options):
    one = model()
    data = DataModule(train=path, val=path, **DATA)
    trainer(epochs, *callbacks, strategy="ddp", devices=2).fit(one, data, **options)
    return one

early = e2eio.Loader(path, shuffle=True, **DATA)  # made before Lightning has started the other rank
whole = run(2, Save(6))
bare = model()
trainer(1, strategy="ddp", devices=2).fit(bare, early)
resumed = run(2, ckpt_path=f"{out}/step6.ckpt")
drop_in = model()
data = e2eio.DataLoader(
    e2eio.Dataset(path), batch_size=16, shuffle=True, fields=("X", "y", "sample_id")
)
trainer(1, strategy="ddp", devices=2).fit(drop_in, data)
rank = torch.distributed.get_rank()
found = {
    "drop-in": drop_in.seen,
    "seen": whole.seen, "validated": whole.validated, "digest": whole.digest(),
    "bare": bare.seen, "resumed": resumed.seen, "exact": resumed.digest() == whole.digest(),
}
json.dump(found, open(f"{out}/rank{rank}.json", "w"))
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(5)
    images = np.where(rng.random((N, 2, 16, 16)) < 0.1, rng.normal(size=(N, 2, 16, 16)), 0.0)
    out = tmp_path_factory.mktemp("lightning") / "ds"
    channels = (Channel("a", "GeV"), Channel("b", "GeV"))
    schema = Schema(ImageField("X", channels, 16, 16), (ScalarField("y", "float32", ""),))
    with e2eio.write(out, schema) as writer:
        writer.append(images.astype(np.float32), {"y": np.arange(N, dtype=np.float32) % 2})
    return out


def run(text: str, path: Path, out: Path) -> None:
    """Run as a script of its own: Lightning's launcher starts the other ranks from the same command line."""
    script = out / "program.py"
    script.write_text(PROGRAM + text)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(script), str(path), str(out)],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
        env=env,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def found(path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("one")
    run(ONE_PROCESS, path, out)
    result: dict[str, Any] = json.loads((out / "found.json").read_text())
    return result


def joined(lists: Iterable[list[Any]]) -> list[Any]:
    return list(chain.from_iterable(lists))


def epochs(seen: dict[str, Any]) -> list[Any]:
    return [seen[epoch] for epoch in sorted(seen)]


def test_a_loader_gives_each_epoch_its_own_order(found: dict[str, Any]) -> None:
    assert epochs(found["bare"]) == found["order"]
    assert [len(epoch) for epoch in found["order"]] == [N_BATCHES] * 3


def test_validation_sees_every_sample_once_an_epoch(found: dict[str, Any]) -> None:
    sanity = list(range(2 * BATCH))  # Lightning's check before training
    assert found["validated"] == sanity + list(range(N)) * 3


def test_a_module_trains_as_the_loader_alone_does(found: dict[str, Any]) -> None:
    assert epochs(found["module"]) == found["order"]
    assert found["same"]


def test_test_and_prediction_run_in_file_order(found: dict[str, Any]) -> None:
    assert found["tested"] == list(range(N))
    assert joined(found["predicted"]) == list(range(N))


@pytest.mark.parametrize("kind", ["bare", "module"])
@pytest.mark.parametrize(("name", "missing"), [("step7", 7), ("step10", 10), ("epoch0", 7)])
def test_training_resumes_exactly_from_any_checkpoint(
    found: dict[str, Any], name: str, missing: int, kind: str
) -> None:
    seen, same_weights = found["resumed"][f"{name} {kind}"]
    assert joined(epochs(seen)) == joined(found["order"])[missing:]
    assert same_weights


def test_a_drop_in_data_loader_resumes_exactly_too(found: dict[str, Any]) -> None:
    whole, rest, same_weights = found["drop-in"]
    assert all(sorted(joined(epoch)) == list(range(N)) for epoch in epochs(whole))
    assert len(whole) == 3
    assert joined(epochs(rest)) == joined(epochs(whole))[9:]
    assert same_weights


def test_loaders_made_anew_every_epoch_keep_the_order(found: dict[str, Any]) -> None:
    assert epochs(found["reloaded"]) == found["order"]


def test_loaders_are_closed_after_the_stage_and_after_an_error(found: dict[str, Any]) -> None:
    assert "closed" in found["closed"]
    assert "closed" in found["closed after an error"]


def test_a_split_gives_each_sample_to_one_stage(found: dict[str, Any]) -> None:
    split, excluding, another = found["split"]
    assert [len(split[stage]) for stage in ("train", "val", "test", "predict")] == [69, 20, 11, N]
    assert sorted(split["train"] + split["val"] + split["test"]) == list(range(N))
    assert sorted(excluding["train"]) == sorted(set(split["train"]) - {3, 50})
    assert [excluding[stage] for stage in ("val", "test")] == [split["val"], split["test"]]
    assert set(another["val"]) != set(split["val"])
    assert found["test alone"] == [split["test"]] * 3
    # Of every version and platform: to draw others would leak tested samples into training.
    assert split["test"] == [8, 10, 17, 31, 32, 46, 51, 75, 77, 82, 86]
    assert split["val"][:5] == [1, 7, 14, 18, 24]


def test_errors_of_a_module_say_what_to_pass(found: dict[str, Any]) -> None:
    assert "less than 1 together" in found["too much"]
    assert "no train=" in found["nothing to split"]
    assert "train=0.5" in found["train is a number"]
    assert "expected at least one of train=, val=, test=, predict=" in found["nothing"]
    assert "pass train= to e2eio.lightning.DataModule" in found["no train"]
    assert found["val is empty"].startswith("no samples for val: val=0.001 of the 100 samples")
    assert found["train is empty"].startswith("no samples for train: val=0.5, test=0.4999 of")
    assert found["text"].startswith("DataModule(train=")


def test_ranks_of_ddp_share_the_samples_and_resume_exactly(path: Path, tmp_path: Path) -> None:
    run(TWO_PROCESSES, path, tmp_path)
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    for epoch in ("0", "1"):
        parts: list[list[int]] = [joined(rank["seen"][epoch]) for rank in ranks]
        assert len(parts[0]) == len(parts[1]) == N // 2
        assert sorted(parts[0] + parts[1]) == list(range(N))
    parts = [joined(rank["drop-in"]["0"]) for rank in ranks]
    assert sorted(parts[0] + parts[1]) == list(range(N))
    assert ranks[0]["digest"] == ranks[1]["digest"]
    for rank in ranks:
        assert rank["exact"]
        assert rank["bare"]["0"] == rank["seen"]["0"]
        assert joined(epochs(rank["resumed"])) == joined(epochs(rank["seen"]))[6:]
        assert len(rank["resumed"]["1"]) == 2
