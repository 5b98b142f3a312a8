"""Loaders and datasets in other processes: forked in any state, spawned, pickled, in torch's workers."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import e2eio
from loader_kinds import KINDS, N_SAMPLES, make_dataset, make_loader, run_program

kinds = pytest.mark.parametrize("kind", KINDS)
EVERYTHING = list(range(N_SAMPLES))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("fork") / "ds")


def check_program(kind: str, path: Path, text: str) -> None:
    done = run_program(kind, textwrap.dedent(IN_CHILD) + textwrap.dedent(text), path)
    assert (done.returncode, done.stderr) == (0, "")


# The child ends as Python programs do, unless it is to be quick.
IN_CHILD = """
everything = list(range(len(fast)))

def in_child(action, quick=False):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # a hang is a failure
        action()
        if quick:
            os._exit(0)
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

def refused(action):
    try:
        action()
    except e2eio.errors.ForkError as error:
        assert "fork" in str(error)
    else:
        raise AssertionError("no ForkError")
"""


@pytest.mark.parametrize(
    ("kind", "dataset"), [("numpy", "slow"), *((kind, "fast") for kind in KINDS)]
)
def test_a_child_gets_an_error_from_the_iterator_and_a_loader_that_works(
    path: Path, kind: str, dataset: str
) -> None:
    text = f"""
    loader = make({dataset})
    iterator, other, done = iter(loader), iter(loader), iter(make(fast))
    list(done)
    if {dataset} is fast:
        next(iterator)

    def child():
        refused(lambda: next(iterator))
        refused(lambda: list(other))
        if isinstance(loader, e2eio.Loader):
            refused(loader.stats)
        iterator.close()
        if {dataset} is fast:
            assert numbers(loader) == everything
            assert numbers(loader) == everything
            loader.stats()
        refused(lambda: next(other))
        if isinstance(loader, e2eio.Loader):
            loader.close()

    in_child(child)
    in_child(lambda: refused(lambda: next(iterator)))
    in_child(lambda: None)
    if isinstance(loader, e2eio.Loader):
        in_child(loader.close)
    if {dataset} is fast:
        assert numbers(iterator) == everything[16:]
        assert numbers(other) == everything
    """
    check_program(kind, path, text)


@kinds
def test_batches_are_readable_in_a_child_and_given_back_by_the_parent(
    path: Path, kind: str
) -> None:
    text = """
    loader = make(fast)
    iterator = iter(loader)
    kept = [next(iterator) for _ in range(3)]

    def child():
        for batch in kept:
            check(batch)
        kept.clear()
        gc.collect()

    in_child(child)
    in_child(lambda: [check(batch) for batch in kept])
    for batch in kept:
        check(batch)
    assert loader.stats()["slots_lent"] == 3
    del batch
    kept.clear()
    assert loader.stats()["slots_lent"] == 0
    assert numbers(iterator) == everything[48:]
    """
    check_program(kind, path, text)


def test_forks_in_the_middle_of_decoding(path: Path) -> None:
    text = """
    loader = make(fast)

    def child():
        assert int(fast[7]["y"]) == 7
        assert numbers(loader) == everything

    seen, forks = [], 0
    while forks < 50:
        for batch in loader:
            if forks < 50:
                forks += 1
                in_child(child, quick=forks % 5)
            check(batch)
    assert numbers(loader) == everything
    """
    check_program("numpy", path, text)


def test_a_fork_while_another_thread_waits_in_next(path: Path) -> None:
    text = """
    loader = make(slow)
    iterator = iter(loader)
    threading.Thread(target=lambda: list(iterator), daemon=True).start()
    time.sleep(0.05)

    def child():
        refused(lambda: next(iterator))
        iterator.close()
        loader.close()

    for quick in (False, True):
        in_child(child, quick)
    loader.close()
    """
    check_program("numpy", path, text)


def test_a_child_of_a_child(path: Path) -> None:
    text = """
    loader = make(fast)
    kept = next(iter(loader))

    def grandchild():
        assert numbers(loader) == everything
        check(kept)

    def child():
        iterator = iter(loader)
        next(iterator)
        in_child(grandchild)
        assert numbers(iterator) == everything[16:]

    in_child(child)
    """
    check_program("numpy", path, text)


PROGRAM = """
import multiprocessing, sys
import e2eio

def numbers(batches):
    return [int(y) for batch in batches for y in batch["y"]]

def look(dataset, loader, queue):
    order = numbers(loader)
    queue.put((len(dataset), int(dataset[5]["y"]), order, [int(each["y"]) for each in dataset.__getitems__([2, 9])]))
    loader.close()

if __name__ == "__main__":
    dataset = e2eio.Dataset(sys.argv[1])
    loader = e2eio.Loader(dataset, batch_size=16, shuffle=True, seed=3, framework="numpy")
    epochs = [numbers(loader), numbers(loader)]
    loader.set_epoch(1)
    running = iter(loader)
    next(running)
    loader.set_epoch(1)
    context = multiprocessing.get_context(sys.argv[2])
    queue = context.Queue()
    process = context.Process(target=look, args=(dataset, loader, queue))
    process.start()
    assert queue.get(timeout=50) == (160, 5, epochs[1], [2, 9])
    process.join(20)
    assert process.exitcode == 0
    assert sorted(numbers(running)) == sorted(epochs[1][16:])
"""

TORCH_PROGRAM = """
import sys
import e2eio, torch

if __name__ == "__main__":
    dataset = e2eio.Dataset(sys.argv[1])
    native = e2eio.Loader(dataset, batch_size=16)
    running = iter(native)
    next(running)  # threads are no hindrance
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=16, num_workers=2, multiprocessing_context=sys.argv[2]
    )
    for ours, theirs in zip(native, loader, strict=True):
        assert list(ours) == list(theirs)
        for name in ours:
            assert torch.equal(ours[name], theirs[name]), name
    assert sum(1 for _ in running) == 9
"""


def assert_runs(directory: Path, text: str, *arguments: str) -> None:
    file = directory / "program.py"
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(file), *arguments],
        check=False,
        timeout=120,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_datasets_and_loaders_are_arguments_of_processes(
    path: Path, tmp_path: Path, method: str
) -> None:
    assert_runs(tmp_path, PROGRAM, str(path), method)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_torch_read_the_same_samples(path: Path, tmp_path: Path, method: str) -> None:
    assert_runs(tmp_path, TORCH_PROGRAM, str(path), method)


def test_a_pickled_dataset_is_a_path(tmp_path: Path) -> None:
    path = make_dataset(tmp_path / "many", n_shards=40)
    dataset = e2eio.Dataset(path)
    dataset.scalars("y")
    text = pickle.dumps(dataset)
    assert len(dataset.readers) == 40
    assert len(text) < 2000  # the statistics of the channels among it
    copy = pickle.loads(text)
    assert copy.digest == dataset.digest
    assert copy.statistics == dataset.statistics
    assert len(pickle.dumps(e2eio.Dataset([*path.glob("*.e2e")]))) < 40 * (len(str(path)) + 60)


@kinds
def test_a_pickled_loader_goes_on_where_the_original_does(path: Path, kind: str) -> None:
    def order(loader: e2eio.Loader) -> list[list[int]]:
        return [[int(y) for batch in loader for y in batch["y"]] for _ in range(2)]

    loader = e2eio.Loader(
        path,
        batch_size=16,
        shuffle=True,
        seed=5,
        rank=1,
        world_size=2,
        threads=2,
        framework="torch" if kind == "torch" else "numpy",
    )
    list(loader)
    running = iter(loader)
    next(running)
    text = pickle.dumps(loader)
    assert len(text) < 10_000
    copy = pickle.loads(text)
    assert repr(copy) == repr(loader)
    assert order(copy) == order(loader)
    assert order(pickle.loads(text)) != order(copy)
    copy.close()
    assert sum(1 for _ in running) == len(loader) - 1


@kinds
def test_an_iterator_says_why_it_is_not_pickled(path: Path, kind: str) -> None:
    iterator = iter(make_loader(kind, path))
    said = r"cannot pickle .* threads .* pickle the Loader"
    if kind == "DataLoader":  # torch's words
        said = "cannot be pickled"
    with pytest.raises((TypeError, NotImplementedError), match=said):
        pickle.dumps(iterator)
    assert len(list(iterator)) == 10
