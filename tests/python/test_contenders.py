"""Contenders in processes of their own: what becomes of one that is missing, fails or delivers something else."""

from __future__ import annotations

import re
import sys
import time
import zipfile
from pathlib import Path

import pytest

import peers
from contenders import CONTENDERS, Entry
from harness import campaign, peer_environments
from harness.campaign import Budget, Kept, measure_cell
from harness.child import Child
from harness.contender import ContenderError, Inputs, VerificationError
from harness.data import ToySource, derive
from harness.peer_environments import Group, find_python
from harness.report import Ratio, Row
from harness.rounds import Result, Timing, measure

TESTS = Path(__file__).resolve().parents[1]
QUICK = Timing(2, 0.01, timeout_s=60, is_tolerant=True)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    pytest.importorskip("pyarrow")
    work = tmp_path_factory.mktemp("jets")
    made = derive(ToySource(1), 8, work, {"npy", "parquet", "e2eio", "own"})
    return Inputs(made.files, 8, made.shape, batch_size=4, threads=1, folder=made.folder)


def register(monkeypatch: pytest.MonkeyPatch, fault: str, group: str = "") -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("FAULT", fault)
    entry = Entry("Faulty", f"faulty {fault}", group, module="faulty_contender")
    monkeypatch.setitem(CONTENDERS, "faulty", entry)


def run(inputs: Inputs, timing: Timing = QUICK) -> tuple[Result, Result]:
    faulty, memset = measure(["faulty", "clear_memset"], inputs, timing, lambda text: None)
    return faulty, memset


@pytest.mark.parametrize(
    ("fault", "status", "why"),
    [
        ("wrong", "wrong", "1 of 8 delivered are not as in the reference"),
        ("raise", "failed", "ValueError: the file is broken"),
        ("die", "failed", r"died \(signal 6\): out of memory, it says"),
        ("import nobody_has_this", "missing", "No module named 'nobody_has_this'"),
    ],
)
def test_a_fault_is_a_result_that_says_so(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch, fault: str, status: str, why: str
) -> None:
    register(monkeypatch, fault)
    faulty, memset = run(inputs)
    assert faulty.status == status
    assert re.search(why, faulty.unavailable)
    assert not faulty.runs
    assert (memset.status, len(memset.runs)) == ("measured", 2)


def test_what_is_printed_does_not_disturb_the_protocol(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, "noise")
    faulty, _ = run(inputs)
    assert (faulty.status, faulty.n_verified, faulty.unavailable) == ("measured", 8, "")
    assert len(faulty.runs) == 2
    assert faulty.own_bytes == 8 * 4  # the labels that it wrote
    assert faulty.details["python"] == sys.executable


def test_a_hang_is_bounded_and_leaves_no_process(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    register(monkeypatch, "hang")
    monkeypatch.setenv("HUNG", str(tmp_path / "pid"))
    faulty, memset = run(inputs, Timing(2, 0.01, timeout_s=3, is_tolerant=True))
    assert (faulty.status, faulty.unavailable) == ("failed", "faulty: no answer within 3 s")
    assert memset.status == "measured"
    worker = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not is_running(worker):
            return
        time.sleep(0.05)
    pytest.fail("the worker of a contender that hung goes on")


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_without_tolerance_wrong_data_and_crashes_stop_the_run(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = Timing(1, 0.01)
    register(monkeypatch, "wrong")
    with pytest.raises(VerificationError, match="faulty: wrong samples"):
        run(inputs, strict)


def test_a_process_that_cannot_be_started_says_so() -> None:
    with pytest.raises(ContenderError, match="cannot start /no/python"):
        Child("faulty", python="/no/python")


def wheel(folder: Path) -> Path:
    path = folder / "tinypeer-1.0-py3-none-any.whl"
    info = "tinypeer-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("tinypeer.py", "VALUE = 1\n")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinypeer\nVersion: 1.0\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "tinypeer.py,,\n")
    return path


def test_peers_are_installed_apart_and_run_there(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    places = tmp_path / "peers"
    monkeypatch.setattr(peers, "PEERS", places)
    monkeypatch.setattr(peer_environments, "PEERS", places)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel(tmp_path).parent))
    groups = {
        "tiny": Group(("tinypeer>=1",), ("tinypeer",)),
        "absent": Group(("nobody-has-this",), ("nobody_has_this",)),
        "broken": Group(("tinypeer>=1",), ("tinypeer.no_such_part",)),
    }
    monkeypatch.setattr(peer_environments, "GROUPS", groups)
    monkeypatch.setattr(peers, "GROUPS", groups)
    assert find_python("tiny") is None
    assert peers.main(["install"]) == 0
    assert "No matching distribution found for nobody-has-this" in peers.describe("absent")
    assert "No module named 'tinypeer.no_such_part'" in peers.describe("broken")
    assert "tinypeer 1.0" in peers.describe("tiny")
    assert peer_environments.find_versions("tiny") == "tinypeer 1.0"
    register(monkeypatch, "import tinypeer", group="tiny")
    faulty, _ = run(inputs)
    assert (faulty.status, faulty.unavailable) == ("measured", "")
    assert faulty.details["python"] == str(places / "tiny" / "bin" / "python")
    register(monkeypatch, "", group="absent")
    faulty, _ = run(inputs)
    assert faulty.status == "missing"
    assert "could not be installed: ERROR: No matching distribution" in faulty.unavailable


def test_a_peer_that_was_never_installed_says_how(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(peer_environments, "PEERS", tmp_path)
    monkeypatch.setattr(peer_environments, "GROUPS", {"x": Group(("nobody",), ("no_such_module",))})
    register(monkeypatch, "", group="x")
    inputs = Inputs({}, 1, (1, 1, 1), 1, 1)
    (faulty,) = measure(["faulty"], inputs, QUICK, lambda text: None)
    assert (faulty.status, faulty.unavailable) == (
        "missing",
        "faulty: not installed; run 'make peers'",
    )


def cell(
    inputs: Inputs, names: list[str], kept: Kept, seconds: float | None = None
) -> tuple[list[Row], list[Ratio]]:
    return measure_cell(
        names,
        inputs,
        {"e2eio": 3000.0},
        "x1",
        QUICK,
        kept=kept,
        budget=Budget(seconds),
        tell=lambda text: None,
    )


def test_e2eio_takes_part_in_every_group_and_finished_ones_are_kept(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(campaign, "GROUP", 1)
    names = ["e2eio_dense", "clear_memset", "clear_nontemporal"]
    kept = Kept(tmp_path, {"jets": 8})
    rows, ratios = cell(inputs, names, kept)
    assert [row.contender for row in rows] == names
    assert [len(row.samples_per_s_rounds) for row in rows] == [4, 2, 2]
    ours = rows[0].samples_per_s_rounds
    for ratio, row, first in zip(ratios, rows[1:], (0, 2), strict=True):
        pairs = zip(ours[first : first + 2], row.samples_per_s_rounds, strict=True)
        assert ratio.rounds == [a / b for a, b in pairs]

    started: list[list[str]] = []

    def note(names: list[str], *_: object) -> list[Result]:
        started.append(names)
        return []

    monkeypatch.setattr(campaign, "measure", note)
    assert cell(inputs, names, kept) == (rows, ratios)
    assert started == []
    cell(inputs, names, Kept(tmp_path, {"jets": 9}))
    assert started == [["e2eio_dense", "clear_memset"], ["e2eio_dense", "clear_nontemporal"]]


def test_a_kept_file_that_was_cut_short_is_measured_again(tmp_path: Path) -> None:
    (tmp_path / "x1-b4-clear_memset.json").write_text('{"conditions": {}, "row": {"contender"')
    assert Kept(tmp_path, {}).load("x1-b4", "clear_memset") is None


def test_what_the_budget_leaves_out_is_a_row_that_says_so(inputs: Inputs) -> None:
    (row,), ratios = cell(inputs, ["clear_memset"], Kept(None, {}), seconds=-1)
    assert (row.status, ratios) == ("not run", [])
    assert row.unavailable == "no time left of -1 s"


# A contender for each of the packages that the project's tests have, and each kind of collating.
HERE = {
    "csr_to_dense": "torch",
    "torch_e2eio": "torch",
    "torch_parquet_flat": "torch",
    "e2eio_coo": "numpy",
    "copy_memory": "numpy",
    "tfdata_autotune": "tensorflow",
    "dali_numpy": "nvidia.dali",
    "webdataset_zstd": "webdataset",
    "blosc2_zstd": "blosc2",
}


def test_contenders_deliver_the_jets_bit_by_bit(inputs: Inputs) -> None:
    names = [name for name, module in HERE.items() if peer_environments._can_import(module)]
    timing = Timing(1, 0.01, timeout_s=250, all_settings=False, is_tolerant=True)
    results = measure(names, inputs, timing, lambda text: None)
    found = {result.name: (result.status, result.unavailable) for result in results}
    assert found == dict.fromkeys(names, ("measured", ""))
    assert {result.n_verified for result in results if result.name != "copy_memory"} == {8}


def test_every_contender_has_its_module_and_its_group() -> None:
    folder = Path(peers.HERE) / "contenders"
    files = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    assert set(CONTENDERS) == files
    assert {entry.group for entry in CONTENDERS.values()} - {""} == set(peer_environments.GROUPS)


def test_the_environment_of_peers_shares_this_torch() -> None:
    torch = pytest.importorskip("torch")
    assert peers._constraints() == [f"torch=={torch.__version__.partition('+')[0]}"]
    assert any(Path(torch.__file__).is_relative_to(p) for p in peer_environments.shared_packages())
