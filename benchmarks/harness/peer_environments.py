"""Where the packages of the contenders are: this interpreter's, or an environment below `.peers`.

Groups of packages that clash with each other, or that nobody wants among the project's own, are
installed by `benchmarks/peers.py` into environments that share the packages of this interpreter.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

__all__ = [
    "GROUPS",
    "PEERS",
    "Group",
    "explain_absence",
    "find_python",
    "find_versions",
    "is_here",
    "read_state",
    "shared_packages",
    "write_state",
]

PEERS = Path(__file__).resolve().parents[2] / ".peers"
STATE = "state.json"


@dataclass(frozen=True, slots=True)
class Group:
    """Packages that share an environment.

    `requirements` are what pip is asked for, `modules` what has to be importable then (after the
    program `before`), `system` the Debian packages that a build needs, `note` what is worth knowing.
    """

    requirements: tuple[str, ...]
    modules: tuple[str, ...]
    system: tuple[str, ...] = ()
    note: str = ""
    before: str = ""


GROUPS = {
    "tensorflow": Group(("tensorflow-cpu>=2.16",), ("tensorflow",)),
    "dali": Group(("nvidia-dali-cuda130>=2.0",), ("nvidia.dali",), note="runs without a card"),
    "webdataset": Group(("webdataset>=1.0",), ("webdataset",)),
    "blosc2": Group(("blosc2>=3.2",), ("blosc2",)),
    "spdl": Group(("spdl-core>=0.8",), ("spdl.pipeline",)),
    "grain": Group(("grain>=0.2.12", "array-record>=0.8"), ("grain", "array_record")),
    "litdata": Group(("litdata>=0.2.50", "zstd"), ("litdata", "zstd")),
    "tensorstore": Group(("tensorstore>=0.1.70",), ("tensorstore",)),
    "huggingface": Group(("datasets>=4",), ("datasets",)),
    "mosaicml": Group(
        ("mosaicml-streaming>=0.12",),
        ("streaming",),
        note="with the clients of many clouds",
        before="from contenders import _torchvision",
    ),
    "ffcv": Group(
        ("ffcv>=1.0.2", "numba"),
        ("ffcv",),
        ("g++", "pkg-config", "libopencv-dev", "libturbojpeg0-dev", "python3-dev"),
        note="built from source",
    ),
    "root": Group(
        ("root>=0.1a12", "uproot>=5.3"), ("ROOT", "uproot"), note="RDataLoader came with ROOT 6.40"
    ),
}


def is_here(group: str) -> bool:
    """Whether this interpreter has a group's packages."""
    return all(_can_import(module) for module in GROUPS[group].modules)


def find_python(group: str) -> str | None:
    """Return the interpreter that has a group's packages, "" for this one; None if there is none.

    Parameters
    ----------
    group : str
        Out of `GROUPS`; "" for contenders that need no more than the project.
    """
    if not group:
        return ""
    python = PEERS / group / "bin" / "python"
    if python.exists() and read_state(group).get("installed"):
        return str(python)
    return "" if group in GROUPS and is_here(group) else None


def explain_absence(group: str) -> str:
    """Say why a group is not there, in a line."""
    why = read_state(group).get("why")
    if why:
        return f"could not be installed: {why}"
    return "not installed; run 'make peers'"


def find_versions(group: str) -> str:
    """Return a group's packages with their versions, "" for those of no group or not there."""
    installed = read_state(group).get("versions")
    if installed or group not in GROUPS or not is_here(group):
        return str(installed or "")
    found = []
    for requirement in GROUPS[group].requirements:
        name = requirement.partition(">")[0]
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:  # the same modules of a package of another name
            found.append(f"{name} of another name")
    return ", ".join(found)


def read_state(group: str) -> dict[str, object]:
    """Return what `benchmarks/peers.py` wrote about a group; empty if it never installed it."""
    try:
        state = json.loads((PEERS / group / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return dict(state)


def write_state(group: str, state: dict[str, object]) -> None:
    """Keep what became of a group."""
    path = PEERS / group / STATE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")


def shared_packages() -> list[str]:
    """Return the folders of packages of this interpreter, which environments of peers share."""
    return [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]


def _can_import(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False
