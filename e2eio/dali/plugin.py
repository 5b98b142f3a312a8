"""The native operator as a file: built here, on the user's side, for the DALI that is installed.

DALI's C++ interface differs from version to version, so no wheel holds the operator, but its sources.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from e2eio import _core
from e2eio.dali import binding
from e2eio.errors import MissingDependencyError

__all__ = [
    "FILE_NAME",
    "Identity",
    "build_operator",
    "cached_operator",
    "identity",
    "read_identity",
]

#: Of the operator, in its directory; DALI's own search (plugin_manager.load_directory) expects such names.
FILE_NAME = "libdali_e2eio.so"

_RECORD = "build.json"

# -ffp-contract=off as in the wheel: kernels agree bit by bit. -w: the warnings are those of DALI's headers.
_FLAGS = (
    *("-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden"),
    *("-ffp-contract=off", "-pthread", "-ffunction-sections", "-w"),
)

_CUDA_PACKAGES = (
    "nvidia-cuda-runtime nvidia-cuda-crt nvidia-cuda-cccl' (CUDA 12: "
    "'nvidia-cuda-runtime-cu12 nvidia-cuda-nvcc-cu12 nvidia-cuda-cccl-cu12'"
)

_PROBE_STANDARD = "#include <concepts>\n#include <span>\n#include <stop_token>\n"

Report = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Identity:
    """What an operator was built from and for; one of another identity is not loaded."""

    #: Version of e2eio.
    e2eio: str
    #: Version of DALI.
    dali: str
    #: Implementation and version of Python, as in "cpython-312".
    python: str
    #: Of the processor, as in "x86_64".
    machine: str
    #: Hex digest of the sources and the flags.
    sources: str


def identity() -> Identity:
    """Return the identity of an operator that fits here."""
    try:
        own = version("e2eio")
    except PackageNotFoundError:  # a source tree that was never installed
        own = "0+unknown"
    digest = hashlib.blake2b(" ".join(_FLAGS).encode(), digest_size=6)
    room = _source_room()
    for path in sorted(room.rglob("*.[ch]pp")):
        digest.update(f"\n{path.relative_to(room)}\n".encode() + path.read_bytes())
    return Identity(
        own,
        binding.dali.__version__,
        str(sys.implementation.cache_tag),
        platform.machine(),
        digest.hexdigest(),
    )


def cached_operator() -> Path:
    """Return where the operator that fits here is, or would be: below ``$XDG_CACHE_HOME/e2eio``."""
    fitting = identity()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = f"dali-{fitting.dali}-e2eio-{fitting.e2eio}-{fitting.python}-{fitting.machine}"
    return cache / "e2eio" / f"{name}-{fitting.sources}" / FILE_NAME


def read_identity(operator: Path) -> Identity | None:
    """Return what the operator in a file was built for; None if nothing beside it says so."""
    try:
        return Identity(**json.loads(operator.with_name(_RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def build_operator(directory: Path | None = None, *, report: Report | None = None) -> Path:
    """Compile and link the operator, and put it in place in one step.

    Parameters
    ----------
    directory : Path or None
        Where it goes; None: the cache, where :func:`e2eio.dali.load_operator` looks for it.
    report : callable or None
        Told what was done and how many of how many steps that makes: ``report("dali/reader.cpp", 3, 56)``.

    Returns
    -------
    Path
        The operator.

    Raises
    ------
    MissingDependencyError
        There is no compiler that does, or the headers of CUDA or zstd are missing, or something does not compile.

    Notes
    -----
    The compiler is ``$CXX``, or the first of c++, g++ and clang++; CUDA's headers are looked for in ``$CUDA_HOME``, in
    NVIDIA's packages for pip, and beside nvcc. About a minute on one core.
    """
    place = cached_operator() if directory is None else directory / FILE_NAME
    compiler = _compiler()
    flags = [*_FLAGS, *_include_flags(compiler)]
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=place.parent) as made:
        work = Path(made)
        objects = _compile(compiler, flags, work, report or (lambda *_: None))
        built = work / FILE_NAME
        _run(
            [*compiler, "-shared", *map(str, objects), *_link_flags(flags), "-o", str(built)],
            "linking",
        )
        (work / _RECORD).write_text(json.dumps(asdict(identity())) + "\n", encoding="utf-8")
        # The record goes first: an operator without one, or with another's, is not loaded.
        (work / _RECORD).replace(place.with_name(_RECORD))
        built.replace(place)
    return place


def _source_room() -> Path:
    # CMake installs the sources beside the compiled core, that of an editable install as well.
    room = Path(str(_core.__file__)).parent / "cpp"
    if not (room / "dali").is_dir():
        raise MissingDependencyError(
            f"sources of the native DALI operator are missing: expected them in {room}; install e2eio again"
        )
    return room


def _compiler() -> list[str]:
    chosen = os.environ.get("CXX", "")
    candidates = [shlex.split(chosen)] if chosen else [["c++"], ["g++"], ["clang++"]]
    found = [each for each in candidates if shutil.which(each[0])]
    if not found:
        raise MissingDependencyError(
            f"no C++ compiler: looked for {chosen or 'c++, g++ and clang++'}; expected g++ >= 12 or clang >= 15: "
            "install one ('apt-get install g++'), or name it in CXX"
        )
    if not _accepts(found[0], list(_FLAGS), _PROBE_STANDARD):
        raise MissingDependencyError(
            f"C++ compiler is too old: {shlex.join(found[0])} refuses {' '.join(_FLAGS[:1])}; expected g++ >= 12 or "
            "clang >= 15: install one, or name it in CXX"
        )
    return found[0]


def _accepts(compiler: list[str], flags: list[str], program: str) -> bool:
    done = subprocess.run(
        [*compiler, *flags, "-fsyntax-only", "-x", "c++", "-"],
        input=program,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0


def _include_flags(compiler: list[str]) -> list[str]:
    room = _source_room()
    flags = [f"-I{room}", f"-I{room / 'dali'}", *binding.sysconfig.get_compile_flags()]
    if (Path(sys.prefix) / "include" / "zstd.h").exists():  # conda's
        flags += ["-isystem", str(Path(sys.prefix) / "include")]
    if not _accepts(compiler, [*_FLAGS, *flags], "#include <zstd.h>\n"):
        raise MissingDependencyError(
            "libzstd's header zstd.h is missing; install it: 'apt-get install libzstd-dev', 'dnf install libzstd-devel' "
            "or 'conda install zstd'"
        )
    if _accepts(compiler, [*_FLAGS, *flags], "#include <liburing.h>\n"):
        flags.append("-DE2EIO_HAVE_URING")
    for cuda in ([], *_cuda_flags()):
        if _accepts(
            compiler,
            [*_FLAGS, *flags, *cuda],
            "#include <cuda_runtime.h>\n#include <cuda_fp16.h>\n",
        ):
            return [*flags, *cuda]
    raise MissingDependencyError(
        "CUDA's headers are missing: DALI's need cuda_runtime.h and cuda_fp16.h (no GPU, no nvcc); install CUDA's "
        f"toolkit and set CUDA_HOME, or 'pip install {_CUDA_PACKAGES})"
    )


def _cuda_flags() -> list[list[str]]:
    """Return what finds CUDA's headers, each way by itself, the likelier first."""
    named = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")]
    ways = [[Path(name) / "include"] for name in named if name]
    packages = Path(binding.sysconfig.get_include_dir()).parents[1]  # site-packages/nvidia
    ways += [[room] for room in sorted(packages.glob("cu[0-9]*/include"), reverse=True)]
    # Packages for CUDA 12 have a directory each.
    parts = ("cuda_runtime", "cuda_nvcc", "cuda_cccl")
    ways.append([packages / part / "include" for part in parts])
    nvcc = shutil.which("nvcc")
    if nvcc:
        ways.append([Path(nvcc).resolve().parents[1] / "include"])
    ways.append([Path("/usr/local/cuda/include")])
    return [
        [flag for room in rooms for flag in ("-isystem", str(room))]
        for rooms in ways
        if (rooms[0] / "cuda_runtime.h").exists()
    ]


def _link_flags(flags: list[str]) -> list[str]:
    link = ["-pthread", "-Wl,-z,defs", "-Wl,--gc-sections", *binding.sysconfig.get_link_flags()]
    library = Path(sys.prefix) / "lib"
    if (library / "libzstd.so").exists():
        link += [f"-L{library}", f"-Wl,-rpath,{library}"]
    return [*link, "-lzstd", *(["-luring"] if "-DE2EIO_HAVE_URING" in flags else [])]


def _compile(compiler: list[str], flags: list[str], work: Path, report: Report) -> list[Path]:
    room = _source_room()
    sources = sorted(room.rglob("*.cpp"))

    def compile_one(source: Path) -> Path:
        made = work / (str(source.relative_to(room)).replace(os.sep, "-") + ".o")
        _run([*compiler, *flags, "-c", str(source), "-o", str(made)], f"compiling {source.name}")
        return made

    objects = []
    with ThreadPoolExecutor(max_workers=_core.usable_cores()) as pool:
        jobs = {pool.submit(compile_one, source): source for source in sources}
        try:
            for job in as_completed(jobs):
                objects.append(job.result())
                report(str(jobs[job].relative_to(room)), len(objects), len(sources))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return sorted(objects)


def _run(command: list[str], doing: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [
            line for line in done.stderr.splitlines() if "error" in line or "undefined" in line
        ]
        raise MissingDependencyError(
            f"native DALI operator does not build: {doing} failed with {' | '.join(errors[:3]) or done.stderr[-300:]}; "
            f"the compiler was {command[0]}, DALI {binding.dali.__version__}: try another compiler (CXX), or go on "
            "without the operator, which e2eio.dali does by itself"
        )
