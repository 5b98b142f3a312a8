from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ISOLATED = Path(__file__).parent / "isolated"


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="tensorflow is not installed")
def test_tensors_datasets_and_keras() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", ISOLATED / "tf_checks.py"],
        env={
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",
            "KERAS_BACKEND": "tensorflow",
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "import e2eio, made_dataset\n"
        f"made_dataset.make({str(tmp_path / 'ds')!r}, 8)\n"
        f"loader = e2eio.Loader({str(tmp_path / 'ds')!r}, batch_size=8, framework='numpy')\n"
        "for load in (loader.to_tf, lambda: e2eio.Loader(loader.dataset, batch_size=8, framework='tf')):\n"
        "    try:\n"
        "        load()\n"
        "    except e2eio.errors.MissingDependencyError as error:\n"
        "        assert 'e2eio[tf]' in str(error), error\n"
        "    else:\n"
        "        raise SystemExit('no error')\n"
    )
    tests = str(Path(__file__).parents[1])
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": tests},
        check=True,
        timeout=60,
    )
