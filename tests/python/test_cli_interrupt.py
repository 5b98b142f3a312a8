"""Ctrl-C while the modules of ``e2eio`` are imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Python imports it before the program: the first import of the module that is named is interrupted.
STOPS = """
import os, sys

class Stops:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["STOP_AT"]:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Stops())
"""


@pytest.fixture
def stopped(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a process in which Ctrl-C is pressed at the module in ``STOP_AT``."""
    (tmp_path / "sitecustomize.py").write_text(STOPS, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


@pytest.mark.parametrize("module", ["numpy", "e2eio._core", "e2eio.loader", "e2eio.cli.view"])
@pytest.mark.parametrize("script", [True, False], ids=["script", "module"])
def test_a_command_ends_with_130_and_no_traceback(
    module: str, script: bool, stopped: dict[str, str], tmp_path: Path
) -> None:
    name = Path(sys.executable).with_name("e2eio")
    if script and not name.exists():
        pytest.skip(f"no script {name}")
    command = [str(name)] if script else [sys.executable, "-m", "e2eio"]
    done = subprocess.run(
        [*command, "--version"],
        cwd=tmp_path,  # not the source tree, which has no compiled core
        env={**stopped, "STOP_AT": module},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 130
    assert done.stderr.startswith("e2eio: interrupted")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_program_that_imports_e2eio_gets_the_interrupt(
    stopped: dict[str, str], tmp_path: Path
) -> None:
    program = "try:\n    import e2eio\nexcept KeyboardInterrupt:\n    print('mine')\n"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**stopped, "STOP_AT": "numpy"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "mine\n", "")
