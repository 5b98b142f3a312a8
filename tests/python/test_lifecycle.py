"""How an iteration ends: dropped, interrupted, shared by threads, over and over. Threads, files and memory go back."""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loader_kinds import KINDS, N_SAMPLES, STALLED, make_dataset, make_loader, run_program

SLOW = (400_000.0, 0.0)  # about a second for an epoch

kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("life") / "ds")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Each test leaves as many threads and files as it found."""
    torch.empty(1).random_()  # opens a file of its own when it is first needed
    gc.collect()
    gc.freeze()  # what other tests have imported need not be looked through again and again
    threads, files = count_threads(), count_files()
    yield
    gc.collect()
    gc.unfreeze()
    assert_settles(threads)
    assert count_files() <= files


def count_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def count_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def assert_settles(threads: int) -> None:
    """Wait for the system to forget threads that have been joined; those that were not never go."""
    end = time.monotonic() + 30
    while count_threads() > threads:
        assert time.monotonic() < end, f"{count_threads()} threads, {threads} before"
        time.sleep(0.001)


def numbers(batches: Any) -> list[int]:
    found = []
    for batch in batches:
        x, y = np.asarray(batch["X"]), np.asarray(batch["y"])
        np.testing.assert_array_equal(np.floor(x), np.broadcast_to(y[:, None, None, None], x.shape))
        found += [int(number) for number in y]
    return found


EVERYTHING = list(range(N_SAMPLES))


def begin(loader: Any, n: int) -> Any:
    iterator = iter(loader)
    for _ in range(n):
        next(iterator)
    return iterator


def drop_name(loader: Any, n: int) -> None:
    iterator = begin(loader, n)
    del iterator


def drop_by_break(loader: Any, n: int) -> None:
    for i, _ in enumerate(loader):
        if i >= n:
            break


def drop_in_a_cycle(loader: Any, n: int) -> None:
    cycle: list[Any] = [begin(loader, n)]
    cycle.append(cycle)
    del cycle
    gc.collect()


def drop_by_error(loader: Any, n: int) -> None:
    def fail() -> None:
        iterator = begin(loader, n)
        raise RuntimeError(str(iterator))

    with pytest.raises(RuntimeError):
        fail()


def drop_by_generator(loader: Any, n: int) -> None:
    def batches() -> Generator[Any, None, None]:
        iterator = begin(loader, n)
        yield 0
        yield from iterator

    generator = batches()
    next(generator)
    generator.close()


def drop_explicitly(loader: Any, n: int) -> None:
    iterator = begin(loader, n)
    iterator.close()
    iterator.close()
    assert list(iterator) == []


WAYS: dict[str, Callable[[Any, int], None]] = {
    "del": drop_name,
    "break": drop_by_break,
    "cycle": drop_in_a_cycle,
    "error": drop_by_error,
    "generator": drop_by_generator,
    "close": drop_explicitly,
}


@kinds
@pytest.mark.parametrize("way", WAYS)
def test_a_dropped_iterator_takes_its_threads_with_it(path: Path, kind: str, way: str) -> None:
    loader = make_loader(kind, path)
    before = count_threads()
    held = []
    for i in range(22 if way == "cycle" else 100):  # to collect garbage takes long
        WAYS[way](loader, i % 8)
        if i % 20 == 0:
            assert_settles(before)
        if i == 20:
            held.append((count_files(), resident_bytes()))
    assert_settles(before)
    assert numbers(loader) == EVERYTHING
    files, resident = held[0]
    assert count_files() == files
    assert resident_bytes() < resident + 2**24
    if kind != "DataLoader":  # its stats were taken while the last batch was held
        assert loader.stats()["slots_lent"] == 0


@kinds
@pytest.mark.parametrize("way", WAYS)
def test_a_drop_does_not_wait_for_a_stalled_storage(path: Path, kind: str, way: str) -> None:
    loader = make_loader(kind, path, throttle=STALLED)  # an epoch takes more than a minute
    before = count_threads()
    if way == "break":  # it needs a batch
        loader = make_loader(kind, path, throttle=SLOW)
    for _ in range(2):
        WAYS[way](loader, 0)
        assert_settles(before)


@kinds
@pytest.mark.parametrize("throttle", [None, STALLED])
def test_the_loader_may_go_first(path: Path, kind: str, throttle: Any) -> None:
    before = count_threads()
    for _ in range(5):
        loader = make_loader(kind, path, throttle=throttle)
        iterator = iter(loader)
        del loader
        if throttle is None:
            next(iterator)
            assert count_threads() > before
        del iterator
        assert_settles(before)


def test_threads_wait_between_full_epochs_and_no_longer(path: Path) -> None:
    loader = make_loader("numpy", path)
    before = count_threads()
    for _ in range(3):
        assert numbers(loader) == EVERYTHING
        assert count_threads() == before + 2 + loader.stats()["io"]["readers"]
    del loader
    assert_settles(before)


@kinds
def test_threads_live_as_long_as_the_traceback_that_holds_the_iterator(
    path: Path, kind: str
) -> None:
    loader = make_loader(kind, path)
    before = count_threads()

    def fail() -> None:
        iterator = begin(loader, 1)
        raise RuntimeError(str(iterator))

    try:
        fail()
    except RuntimeError as error:
        kept = error
    assert count_threads() > before
    del kept
    assert_settles(before)


@kinds
def test_ctrl_c_ends_the_wait_for_the_storage(path: Path, kind: str) -> None:
    loader = make_loader(kind, path, throttle=SLOW)
    before = count_threads()
    main = threading.main_thread().ident
    assert main is not None
    for _ in range(2):
        timer = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            while True:
                numbers(loader)
        timer.join()
        assert_settles(before)
    assert numbers(loader) == EVERYTHING


def test_ctrl_c_leaves_an_iterator_that_goes_on(path: Path) -> None:
    iterator = iter(make_loader("numpy", path, throttle=SLOW))
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.01, signal.pthread_kill, (main, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        timer.start()  # here, as it may go off at once
        next(iterator)
    timer.join()
    assert numbers(iterator) == EVERYTHING


@pytest.fixture
def on_usr1() -> Iterator[Callable[[Callable[[], Any]], None]]:
    before = signal.getsignal(signal.SIGUSR1)

    def call(action: Callable[[], Any]) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: action())

    yield call
    signal.signal(signal.SIGUSR1, before)


def send_often(n: int) -> threading.Thread:
    def send() -> None:
        for _ in range(n):
            time.sleep(0.005)  # the main thread is to be in next()
            os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@kinds
def test_signals_reach_the_main_thread_and_cost_no_batch(
    path: Path, kind: str, on_usr1: Any
) -> None:
    received = []
    on_usr1(lambda: received.append(threading.get_ident()))
    loader = make_loader(kind, path, throttle=SLOW)
    sender = send_often(40)
    assert numbers(loader) == EVERYTHING
    sender.join()
    numbers(loader)
    assert set(received) == {threading.main_thread().ident}


def test_a_signal_handler_may_close_the_loader(path: Path, on_usr1: Any) -> None:
    loader = make_loader("numpy", path, throttle=STALLED)
    on_usr1(loader.close)
    iterator = iter(loader)
    sender = send_often(1)
    assert list(iterator) == []
    sender.join()


def test_a_signal_handler_may_take_a_batch(path: Path, on_usr1: Any) -> None:
    iterator = iter(make_loader("numpy", path, throttle=SLOW))
    taken: list[int] = []
    on_usr1(lambda: taken.extend(numbers(next(iterator, ()) for _ in range(1))))
    sender = send_often(1)
    rest = numbers(iterator)
    sender.join()
    assert len(taken) == 16
    assert sorted(taken + rest) == EVERYTHING


@kinds
def test_iterators_of_one_loader_are_independent(path: Path, kind: str) -> None:
    loader = make_loader(kind, path)
    iterators = [iter(loader) for _ in range(3)]
    next(iterators[2])
    del iterators[2]
    both = list(zip(*iterators, strict=True))
    for k in range(2):
        assert numbers(pair[k] for pair in both) == EVERYTHING
    del both, iterators


def in_threads(n: int, action: Callable[[], Any]) -> list[Any]:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(action())) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == n
    return results


@kinds
def test_threads_that_share_an_iterator_get_each_batch_once(path: Path, kind: str) -> None:
    loader = make_loader(kind, path, batch_size=1)
    for _ in range(10):
        iterator = iter(loader)
        shares = in_threads(4, lambda it=iterator: numbers(it))  # type: ignore[misc]
        assert all(share == sorted(share) for share in shares)
        assert sorted(number for share in shares for number in share) == EVERYTHING


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "DataLoader"])  # as torch's
def test_threads_that_share_a_loader_get_epochs_of_their_own(path: Path, kind: str) -> None:
    loader = make_loader(kind, path, batch_size=7)
    assert in_threads(4, lambda: [numbers(loader) for _ in range(5)]) == [[EVERYTHING] * 5] * 4


@pytest.mark.parametrize("closed", ["iterator", "loader"])
def test_closing_ends_the_wait_of_another_thread(path: Path, closed: str) -> None:
    loader = make_loader("numpy", path, throttle=STALLED)
    iterator = iter(loader)
    timer = threading.Timer(0.05, (iterator if closed == "iterator" else loader).close)
    timer.start()
    assert in_threads(2, lambda: list(iterator)) == [[], []]
    timer.join()


GROWTH = """
def taken():
    resident = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")
    threads = len(os.listdir("/proc/self/task")) - loader.stats()["io"]["readers"]
    return resident, threads, len(os.listdir("/proc/self/fd"))

loader = make(fast)
for epoch in range(400):
    if epoch == 100:  # memory has settled
        before = taken()
    assert sum(1 for _ in loader) == 10
print([now - then for now, then in zip(taken(), before)])
"""


@kinds
def test_nothing_grows_over_many_epochs(path: Path, kind: str) -> None:
    done = run_program(kind, GROWTH, path)  # a process of its own: others' memory is not counted
    assert done.stderr == ""
    resident, threads, files = json.loads(done.stdout)
    assert (threads, files) == (0, 0)
    assert resident < 2**22  # two huge pages
