"""Without the native operator, and without what its build needs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from dali_toys import N_BATCHES, write_toy
from e2eio.cli.main import main


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("operator") / "ds")


def test_without_the_operator_the_source_takes_its_place_with_one_warning(path: Path) -> None:
    program = f"""
        import warnings
        import numpy as np
        import e2eio
        from e2eio import dali
        from e2eio.dali.binding import pipeline_def
        from e2eio.errors import MissingDependencyError

        given = e2eio.Loader({str(path)!r}, batch_size=8, framework="numpy", fields=("X", "y"))

        def pipe_of(**options):
            @pipeline_def(batch_size=8, num_threads=1, device_id=None)
            def graph():
                return dali.reader(given, **options)
            pipe = graph()
            pipe.build()
            return pipe

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pipe = pipe_of()
            pipe_of()
        print(*(each.message for each in caught if "operator" in str(each.message)), sep="\\n")
        found = [np.array(pipe.run()[0].as_tensor()) for _ in range({N_BATCHES})]
        ours = e2eio.Loader({str(path)!r}, batch_size=8, framework="numpy", fields=("X", "y"))
        assert all((a == b).all() for a, (b, _) in zip(found, ours, strict=True))
        try:
            pipe_of(cycle="quiet")
        except MissingDependencyError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "E2EIO_DALI_OPERATOR": "/nowhere/op.so"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    warned, refused = done.stdout.splitlines()
    message = "native DALI operator is not built: /nowhere/op.so: no such file; build it once with 'e2eio build-dali-op'"
    assert warned.startswith(f"{message}; e2eio.dali.source takes its place")
    assert refused == message


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        ("stop_token", "compiler is too old"),
        ("zstd.h", "zstd.h is missing"),
        ("cuda_runtime.h", "CUDA's headers are missing"),
        ("", "does not build: compiling"),
    ],
)
def test_what_is_missing_for_the_build_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refused: str,
    message: str,
) -> None:
    compiler = tmp_path / "cxx"
    fails = f'grep -q "{refused}" && exit 1; exit 0' if refused else "exit 0"
    compiler.write_text(
        f'#!/bin/sh\ncase "$*" in *-fsyntax-only*) {fails};; esac\necho "x.cpp: error: no" >&2; exit 1\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert main(["build-dali-op", "--quiet", "--output", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert [each.name for each in tmp_path.glob("out/*")] == []


def test_no_compiler_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main(["build-dali-op", "--quiet", "--output", str(tmp_path)]) == 1
    assert "no C++ compiler: looked for no-such-compiler" in capsys.readouterr().err
