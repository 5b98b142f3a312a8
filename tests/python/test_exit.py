"""The process ends in every state that a loader can be in: at once, with the right code, without a word."""

from __future__ import annotations

import signal
import textwrap
from pathlib import Path

import pytest

from loader_kinds import make_dataset, run_program

# What follows the beginning of an iteration, and the exit code. `kept` is a batch, or None where the storage stalls.
ENDINGS = {
    "the main program ends": ("pass", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "an exception": ("raise RuntimeError('on purpose')", 1),
    "os._exit": ("os._exit(4)", 4),
    "a daemon thread iterates": (
        """
        del iterator
        def run():
            while True:
                for kept in loader:
                    pass
        for _ in range(2):
            threading.Thread(target=run, daemon=True).start()
        time.sleep(0.05)
        """,
        0,
    ),
    "a daemon thread shares the iterator": (
        """
        def run():
            while True:
                list(iterator)
        threading.Thread(target=run, daemon=True).start()
        time.sleep(0.01)
        """,
        0,
    ),
    "in a cycle": ("cycle = [iterator]; cycle.append(cycle); del iterator, loader, kept", 0),
    "in another module": ("e2eio.kept = [iterator, kept]; del iterator, loader, kept", 0),
    "in a class": ("class Trainer: batches = iterator\ntrainer = Trainer()", 0),
    "in a generator": (
        """
        def batches():
            yield 1
            yield from iterator
        kept = batches()
        next(kept)
        """,
        0,
    ),
    "closed in atexit": ("atexit.register(loader.close)", 0),
    "begun in atexit": ("atexit.register(lambda: iter(loader))", 0),
    "the loader is gone": ("del loader", 0),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", -signal.SIGTERM),
    "SIGTERM as SystemExit": (
        """
        def end(number, frame):
            sys.exit(5)
        signal.signal(signal.SIGTERM, end)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        while True:
            list(iterator)
        """,
        5,
    ),
    "Ctrl-C": (
        """
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        while True:
            list(iterator)
        """,
        -signal.SIGINT,
    ),
}
# These wait for batches, which a stalled storage does not deliver.
ENDINGS_WITH_BATCHES = {
    "a thread iterates to the end": (
        "threading.Thread(target=lambda: print(len(list(loader)))).start()",
        0,
    ),
    "next in atexit": ("atexit.register(lambda: print(len(list(iterator))))", 0),
    "batches are held": ("kept = [kept, *iterator, *loader]", 0),
    "the last batch is held": ("*_, kept = iterator; del iterator, loader", 0),
    "a batch was written into": ("kept['X'].add_(1) if hasattr(kept['X'], 'add_') else 0", 0),
}
TORCH = (
    "the main program ends",
    "a daemon thread iterates",
    "SIGTERM as SystemExit",
    "batches are held",
    "a batch was written into",
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("exit") / "ds")


def check_ending(kind: str, path: Path, text: str, code: int, ending: str, begin: str) -> None:
    done = run_program(kind, begin + "\n" + textwrap.dedent(text), path)
    told = done.stderr.splitlines()
    if ending == "an exception":
        assert told[0].startswith("Traceback")
        assert told.pop() == "RuntimeError: on purpose"
    elif ending == "Ctrl-C":
        assert told.pop() == "KeyboardInterrupt"
    elif ending == "a batch was written into" and kind != "numpy":
        told = [
            line for line in told if "writable=True" not in line and "warnings.warn" not in line
        ]
    if code in (1, -signal.SIGINT):
        told = [line for line in told if line.startswith(("Exception ignored", "terminate"))]
    assert (done.returncode, told) == (code, [])


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_process_ends_in_mid_epoch(path: Path, ending: str) -> None:
    text, code = ENDINGS[ending]
    begin = "loader = make(fast); iterator = iter(loader); kept = next(iterator)"
    check_ending("numpy", path, text, code, ending, begin)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_process_ends_while_the_storage_stalls(path: Path, ending: str) -> None:
    text, code = ENDINGS[ending]
    begin = "loader = make(slow); iterator = iter(loader); kept = None; time.sleep(0.02)"
    check_ending("numpy", path, text, code, ending, begin)


@pytest.mark.parametrize("ending", ENDINGS_WITH_BATCHES)
def test_the_process_ends_with_batches(path: Path, ending: str) -> None:
    text, code = ENDINGS_WITH_BATCHES[ending]
    begin = "loader = make(fast); iterator = iter(loader); kept = next(iterator)"
    check_ending("numpy", path, text, code, ending, begin)


@pytest.mark.parametrize("ending", TORCH)
def test_the_process_ends_with_torch(path: Path, ending: str) -> None:
    text, code = {**ENDINGS, **ENDINGS_WITH_BATCHES}[ending]
    begin = "loader = make(fast); iterator = iter(loader); kept = next(iterator)"
    check_ending("torch", path, text, code, ending, begin)
