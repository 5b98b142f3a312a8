"""The house rules, executable: who may know whom, what may not occur, and how long things may be."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from e2eio import _core

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "cpp" / "e2eio"
BIND = ROOT / "cpp" / "bind"
DALI = ROOT / "cpp" / "dali"  # built on the user's side alone
PACKAGE = ROOT / "e2eio"
IMPORTERS = PACKAGE / "importers"

# Room -> the rooms whose headers it may include, besides its own.
CPP_ROOMS: dict[str, set[str]] = {
    "base": set(),
    "io": {"base"},
    "kernels": {"base"},
    "plan": {"base"},
    "codec": {"base", "kernels"},
    "format": {"base", "io", "codec", "kernels"},
    "transform": {"base", "codec", "kernels", "plan"},
    "pipeline": {"base", "io", "codec", "kernels", "plan", "transform", "format"},
}

# Module or subpackage of e2eio -> those it may import, besides its own.
_LOW = {"errors", "schema"}
PYTHON_ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "integers": set(),
    "progress": {"errors"},
    "schema": {"errors", "_core"},
    "presets": _LOW,
    "manifest": _LOW,
    "shards": {*_LOW, "manifest", "remote", "_core"},
    "remote": {*_LOW, "manifest", "_core"},
    "dataset": {
        *_LOW,
        *("manifest", "shards", "direct", "importers", "remote", "distributed", "_core"),
    },
    "distributed": {"errors"},
    "options": {*_LOW, "integers", "dataset", "distributed", "transforms", "_core"},
    "sampling": {"errors", "integers"},
    "plan": {"errors", "dataset", "options", "sampling", "_core"},
    "transforms": {*_LOW, "integers", "manifest"},
    "batches": {"errors", "dataset", "options", "plan", "_core"},
    "loader": {
        *_LOW,
        "dataset",
        "device_options",
        "batches",
        "transforms",
        "distributed",
        "options",
        "plan",
        "sampling",
        "_core",
    },
    "adapters": {*_LOW, "batches", "dataset", "options", "loader", "plan", "_core"},
    "jax": {*_LOW, "adapters", "batches", "loader", "options"},
    "xla": {*_LOW, "adapters", "batches", "loader"},
    "lightning": {"errors", "dataset", "loader", "options", "plan", "_core"},
    "torch": {
        *_LOW,
        *("adapters", "batches", "dataset", "distributed", "options", "transforms"),
        "_core",
    },
    "models": {"errors", "integers", "options"},
    "device": {"errors", "batches"},
    "device_options": {"errors", "device"},
    "dali": {*_LOW, "dataset", "loader", "options", "transforms", "_core"},
    "tfrecord": {"errors", "_core"},
    "detector_grid": set(),
    "importers": {*_LOW, "presets", "detector_grid", "remote", "tfrecord"},
    "exporters": {*_LOW, "dataset", "loader", "manifest", "progress", "tfrecord"},
    "production": {*_LOW, "manifest", "progress", "remote", "shards", "_core"},
    "conversion": {
        *_LOW,
        *("presets", "importers", "production", "shards", "manifest", "progress", "remote"),
        "_core",
    },
    "direct": {
        *_LOW,
        *("conversion", "distributed", "importers", "manifest", "production", "remote"),
        *("shards", "_core"),
    },
    "sim": {
        *_LOW,
        *("detector_grid", "importers", "integers", "manifest", "presets"),
        *("production", "progress", "remote", "shards"),
    },
    "summary": {"errors", "dataset", "loader", "options", "progress"},
    "physics": {"schema", "summary"},
    "plots": {*_LOW, "dataset", "physics", "progress", "summary"},
    "reshard": {
        *_LOW,
        *(
            "manifest",
            "shards",
            "dataset",
            "plan",
            "options",
            "production",
            "progress",
            "_core",
        ),
    },
}
EVERYTHING = {"__init__", "__main__", "cli"}  # may import all of e2eio

REQUIRED = {"numpy", "zstandard"}
OPTIONAL = {
    *("torch", "nvidia", "mpi4py", "jax", "pyarrow", "h5py", "uproot", "awkward", "fsspec"),
    *("s3fs", "gcsfs", "fsspec_xrootd", "dask", "distributed", "pythia8mc", "fastjet"),
    *("matplotlib", "mplhep", "rich", "lightning", "ml_dtypes", "tensorflow", "torch_xla"),
    *("triton", "zarr", "shtab", "isal"),
}

# Rooms that are all about one optional package: what else may import it is still one module.
ITS_PACKAGE = {"torch": {"torch"}, "device": {"torch", "triton"}, "models": {"torch"}}

CPP_FILES = sorted(path for room in (CORE, BIND, DALI) for path in room.rglob("*.[ch]pp"))
HEADERS = [path for path in CPP_FILES if path.suffix == ".hpp"]
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [*CPP_FILES, *MODULES, *sorted((ROOT / "tests").rglob("*.[ch]pp"))]

FORBIDDEN_IN_CORE = {
    "new": r"(?<!<)\bnew\b",
    "delete": r"(?<!= )\bdelete\b",
    "malloc": r"\b(?:malloc|calloc|realloc|free|alloca)\s*\(",
    "iostream": r"<iostream>|\bstd::(?:cout|cerr|clog)\b",
    "printf": r"\b(?:f|s|sn|v)?printf\s*\(",
    "abort": r"\bstd::(?:abort|terminate|exit|_Exit)\b|(?<!\w)::abort\b|\bassert\s*\(",
    "python": r"Python\.h|pybind11|numpy",
    "using namespace": r"\busing\s+namespace\b",
    "detached thread": r"\.detach\s*\(",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def every(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=name_of)


def code_of(path: Path) -> str:
    """C++ without comments and string literals, line breaks kept; includes stay."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), text, flags=re.DOTALL)
    return re.sub(r'(?<!#include )"(?:\\.|[^"\\\n])*"', '""', text)


def includes(path: Path) -> set[str]:
    return set(re.findall(r'^\s*#\s*include\s*[<"]([^">]+)[">]', code_of(path), re.MULTILINE))


def imports(path: Path) -> set[str]:
    """Dotted names of all modules that a Python module imports, wherever the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= _imported_from(path, node)
        elif isinstance(node, ast.Call) and _callee(node) in ("import_module", "__import__"):
            found |= {
                arg.value
                for arg in node.args
                if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
            }
    return found


def _imported_from(path: Path, node: ast.ImportFrom) -> set[str]:
    base = node.module or ""
    if node.level:
        parents = path.relative_to(ROOT).parts[: -node.level]
        base = ".".join([*parents, *([base] if base else [])])
    if base == "e2eio":
        return {f"e2eio.{alias.name}" for alias in node.names}
    return {base}


def _callee(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_there_is_something_to_check() -> None:
    assert {path.name for path in CORE.iterdir() if path.is_dir()} == set(CPP_ROOMS)
    assert CPP_FILES
    assert MODULES


@every([path for path in CPP_FILES if path.is_relative_to(CORE)])
def test_core_rooms_include_only_what_they_may(path: Path) -> None:
    room = path.relative_to(CORE).parts[0]
    used = {name.split("/")[1] for name in includes(path) if name.startswith("e2eio/")}
    assert used - {room} <= CPP_ROOMS[room]


@every([path for path in CPP_FILES if path.is_relative_to(CORE)])
def test_nothing_in_the_core_includes_the_binding_or_a_relative_path(path: Path) -> None:
    own = [n for n in includes(path) if n.startswith(("bind/", ".")) or (CORE / n).exists()]
    beside = [name for name in includes(path) if "/" not in name and (path.parent / name).exists()]
    assert own + beside == []


@pytest.mark.parametrize("rule", FORBIDDEN_IN_CORE)
def test_core_does_without(rule: str) -> None:
    pattern = re.compile(FORBIDDEN_IN_CORE[rule])
    found = []
    for path in CPP_FILES:
        if not path.is_relative_to(BIND):
            found += [line.strip() for line in code_of(path).splitlines() if pattern.search(line)]
    assert found == []


@every([path for path in CPP_FILES if CORE / "base" not in path.parents])
def test_only_base_throws_standard_exceptions(path: Path) -> None:
    assert re.findall(r"\bthrow\s+std::(?!bad_alloc)\w+", code_of(path)) == []


def test_pybind11_has_one_door() -> None:
    doors = [
        name_of(path)
        for path in CPP_FILES
        if any(name.startswith(("pybind11/", "Python.h", "numpy/")) for name in includes(path))
    ]
    assert doors == ["cpp/bind/pybind.hpp"]


@every([path for path in CPP_FILES if not path.is_relative_to(DALI)])
def test_dali_stays_in_its_room(path: Path) -> None:
    assert [name for name in includes(path) if name.startswith("dali/")] == []


@every([path for path in CPP_FILES if path.is_relative_to(DALI)])
def test_the_native_operator_knows_no_binding(path: Path) -> None:
    assert [name for name in includes(path) if (BIND / name).exists()] == []


def test_gil_is_released_at_one_seam() -> None:
    seams = [
        name_of(path)
        for path in CPP_FILES
        if re.search(r"gil_scoped_release|PyEval_SaveThread|Py_BEGIN_ALLOW", code_of(path))
    ]
    assert seams == ["cpp/bind/gil.hpp"]


@every(HEADERS)
def test_every_class_says_its_thread_rule(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    silent = []
    for number, line in enumerate(lines):
        found = re.match(r"class (?!\w+;)(?:\[\[\w+\]\] |E2EIO_\w+ )?(\w+)", line)
        if found is None:
            continue
        comment, above = "", number - 1
        while above >= 0 and lines[above].startswith(("//", "template")):
            comment, above = lines[above] + comment, above - 1
        if not re.search("thread", comment, re.IGNORECASE):
            silent.append(found.group(1))
    assert silent == [], "say in the class comment which threads may call what"


@every([path for path in HEADERS if not path.name.endswith(".inc.hpp")])
def test_headers_are_guarded_and_begin_with_a_sentence(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("//")
    assert "#pragma once" in text


@every([*CPP_FILES, *MODULES])
def test_files_are_short(path: Path) -> None:
    limit = 200 if path.suffix == ".hpp" else 400
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


@every(MODULES)
def test_functions_are_short(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    long = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            begin = node.body[0]
            if ast.get_docstring(node) is not None and len(node.body) > 1:
                begin = node.body[1]
            length = (node.end_lineno or node.lineno) - begin.lineno + 1
            if length > 40:
                long[node.name] = length
    assert long == {}


@every(SOURCES)
def test_sources_are_ascii(path: Path) -> None:
    assert path.read_bytes().isascii()


def test_files_have_nouns_for_names() -> None:
    banned = {"util", "utils", "helper", "helpers", "common", "misc"}
    paths = [*CPP_FILES, *MODULES]
    assert [name_of(path) for path in paths if banned & {path.stem, path.parent.name}] == []


@every([path for path in MODULES if path.stem not in ("__main__",)])
def test_modules_say_what_they_export(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "a module begins with a docstring"
    targets = [
        target.id
        for node in tree.body
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    ]
    assert "__all__" in targets


@every(MODULES)
def test_python_rooms_import_only_what_they_may(path: Path) -> None:
    room = room_of(path)
    if room in EVERYTHING:
        return
    assert room in PYTHON_ROOMS, f"give {room} a place in PYTHON_ROOMS"
    used = {name.split(".")[1] for name in imports(path) if name.startswith("e2eio.")}
    assert used - {room} <= PYTHON_ROOMS[room]


@every([path for path in MODULES if path.is_relative_to(IMPORTERS)])
def test_importers_of_one_kind_know_nothing_of_the_others(path: Path) -> None:
    used = {name.split(".")[2] for name in imports(path) if name.startswith("e2eio.importers.")}
    own = path.relative_to(IMPORTERS).parts[0]
    assert used & {"arrays", "records", "root", "parquet"} - {own} == set()


@every(MODULES)
def test_only_declared_packages_are_imported(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)}
    assert tops - set(sys.stdlib_module_names) - {"e2eio"} <= REQUIRED | OPTIONAL


# Modules that import a package besides the one that turns batches into its arrays: each is imported when it is asked for.
ALSO = {
    ("torch", "e2eio/distributed/process_group.py"),
    # Written apart from where it is read: neither knows the other.
    ("pyarrow", "e2eio/exporters/parquet.py"),
    ("h5py", "e2eio/exporters/hdf5.py"),
}


def test_each_optional_package_is_imported_in_one_module() -> None:
    users: dict[str, set[str]] = defaultdict(set)
    for path in MODULES:
        if room_of(path) in ITS_PACKAGE:  # a room of its own
            used = {n.split(".")[0] for n in imports(path)} & OPTIONAL
            assert used <= ITS_PACKAGE[room_of(path)]
            continue
        for name in imports(path):
            if (name.split(".")[0], name_of(path)) not in ALSO:
                users[name.split(".")[0]].add(name_of(path))
    assert {n: sorted(m) for n, m in users.items() if n in OPTIONAL and len(m) > 1} == {}


def test_import_brings_in_numpy_alone_and_starts_no_thread() -> None:
    program = (
        "import os, sys\n"
        "before = set(sys.modules)\n"
        "import e2eio\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - set(sys.stdlib_module_names) - {'e2eio', 'numpy'}))\n"
        "print(len(os.listdir('/proc/self/task')) if os.path.isdir('/proc/self/task') else 1)\n"
    )
    # numpy's BLAS starts threads of its own, unless told not to.
    quiet = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **quiet},
        check=True,
        capture_output=True,
        text=True,
    )
    extra, threads = done.stdout.splitlines()
    assert extra == ""
    assert int(threads) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="nm -D reads ELF")
def test_core_exports_its_init_function_alone() -> None:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("no nm")
    done = subprocess.run(
        [nm, "-D", "--defined-only", str(_core.__file__)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["PyInit__core"]


@pytest.mark.parametrize("room", CPP_ROOMS)
def test_every_core_room_has_its_tests(room: str) -> None:
    tests = ROOT / "tests" / "cpp"
    assert (tests / f"{room}_test.cpp").exists() or list((tests / room).glob("*_test.cpp"))
