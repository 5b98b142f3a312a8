"""What a measurement has to be read with: machine, versions, commit, date."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

__all__ = ["Environment", "count_cores", "describe", "find_commit"]

Environment = dict[str, str | int | float | list[str] | dict[str, str]]
PACKAGES = ("e2eio", "numpy", "torch", "pyarrow", "h5py")


def describe() -> Environment:
    """Describe this machine and the software on it.

    Returns
    -------
    dict
        cpu, cores (those this process may use), memory_gb, kernel, e2eio_kernels, versions, commit,
        date (UTC) and page_cache.
    """
    return {
        "cpu": _read_field("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "cores": count_cores(),
        "memory_gb": _read_memory_gb(),
        "kernel": f"{platform.system()} {platform.release()}",
        "e2eio_kernels": _list_kernels(),
        "versions": {"python": platform.python_version()}
        | {name: _find_version(name) for name in PACKAGES},
        "commit": find_commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "page_cache": "warm",
    }


def _read_field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def count_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_memory_gb() -> float:
    kibibytes = _read_field("/proc/meminfo", "MemTotal").split()
    return round(int(kibibytes[0]) * 1024 / 1e9, 1) if kibibytes else 0.0


def _list_kernels() -> list[str]:
    try:
        import e2eio
    except ImportError:
        return []
    return list(e2eio.kernels())


def _find_version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def find_commit() -> str:
    """Return the name of the commit that is checked out, with "-dirty" if files were changed; or "unknown"."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(
            command,
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
