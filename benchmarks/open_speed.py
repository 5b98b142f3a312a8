"""How long does a dataset of very many samples take to open, and to be resumed in, and how much memory?"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.environment import describe

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from large_shard import write_empty_samples

__all__ = ["main", "measure"]

TARGET_S = 1.0
TARGET_MIB = 64.0
TARGET_RESUME_S = 0.05

_OPEN = """
import json, sys, time
import e2eio
def peak_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
before = peak_kib()
begin = time.perf_counter()
dataset = e2eio.Dataset(sys.argv[1])
seconds = time.perf_counter() - begin
kibibytes = peak_kib() - before - 8 * (len(dataset) + 1) / 1024
loader = e2eio.Loader(dataset, batch_size=64, shuffle=True, framework="numpy", threads=1)
state = {**loader.state_dict(), "epoch": 3, "position": len(dataset) // 2}
begin = time.perf_counter()
loader.load_state_dict(state)
batches = iter(loader)
next(batches)
resumed = time.perf_counter() - begin
print(json.dumps({"seconds": seconds, "mib": kibibytes / 1024, "resume_s": resumed}))
"""


def measure(path: Path, rounds: int) -> list[dict[str, float]]:
    """Open the dataset in fresh processes.

    Returns
    -------
    list of dict
        Per round ``seconds``; ``mib``: growth of the peak resident memory beyond 8 bytes per sample; ``resume_s``: from
        a state in mid-epoch to the first batch.
    """
    found = []
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", _OPEN, str(path)], check=True, capture_output=True, text=True
        )
        found.append(json.loads(done.stdout))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--samples", type=int, default=10**8, help="(default: 10^8, a file of 1.3 GB)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="processes that open it (default: 5)")
    parser.add_argument("--folder", type=Path, help="where the file is made (default: temporary)")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a target is missed")
    told = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=told.folder) as folder:
        path = Path(folder) / "large.e2e"
        print(f"== writing {told.samples:,} empty samples")
        size = write_empty_samples(path, told.samples)
        print(f"== opening {size / 1e9:.2f} GB, page cache warm")
        found = measure(path, told.rounds)
    seconds = [each["seconds"] for each in found]
    memory = max(each["mib"] for each in found)
    median = statistics.median(seconds)
    machine = describe()
    print(f"{machine['cpu']}, {machine['cores']} cores, commit {machine['commit']}")
    print(
        f"opened in {median:.3f} s ({min(seconds):.3f} to {max(seconds):.3f} in {told.rounds} processes; "
        f"target {TARGET_S:g} s), {memory:.1f} MiB besides the offsets (target {TARGET_MIB:g} MiB)"
    )
    resumed = [each["resume_s"] for each in found]
    resume_s = statistics.median(resumed)
    print(
        f"resumed in mid-epoch in {1e3 * resume_s:.1f} ms ({1e3 * min(resumed):.1f} to {1e3 * max(resumed):.1f}), the "
        f"first batch included (target {1e3 * TARGET_RESUME_S:g} ms)"
    )
    missed = median > TARGET_S or memory > TARGET_MIB or resume_s > TARGET_RESUME_S
    return int(told.check and missed)


if __name__ == "__main__":
    sys.exit(main())
