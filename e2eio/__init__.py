"""Feeds multi-channel detector images to neural networks.

>>> import e2eio
>>> e2eio.kernels()[-1]
'scalar'
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from e2eio import distributed, errors, sampling, transforms
    from e2eio._core import kernel_set, kernels
    from e2eio.batches.forms import Coo, Wire
    from e2eio.dataset import Dataset
    from e2eio.errors import E2eioError
    from e2eio.loader import Loader
except ModuleNotFoundError as error:
    if error.name != "e2eio._core":
        raise
    raise ImportError(
        "the compiled core e2eio._core is missing; build it with 'pip install .' in the source tree"
    ) from error
except KeyboardInterrupt:
    # Most of a command's first half second passes here, before e2eio.cli could answer a Ctrl-C.
    program = sys.orig_argv[1:3]
    if program != ["-m", "e2eio"] and Path(*program[:1]).name != "e2eio":
        raise
    sys.stderr.write("e2eio: interrupted\n")
    sys.exit(130)

if TYPE_CHECKING:
    from e2eio import jax as jax
    from e2eio import models as models
    from e2eio import xla as xla
    from e2eio.conversion import convert
    from e2eio.device import prefetch_to_device
    from e2eio.exporters import export
    from e2eio.reshard import merge, repack, shuffle, split
    from e2eio.shards import write
    from e2eio.torch import DataLoader, default_collate

try:
    __version__ = version("e2eio")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = [
    "Coo",
    "DataLoader",
    "Dataset",
    "E2eioError",
    "Loader",
    "Wire",
    "__version__",
    "convert",
    "default_collate",
    "distributed",
    "errors",
    "export",
    "kernel_set",
    "kernels",
    "merge",
    "prefetch_to_device",
    "repack",
    "sampling",
    "shuffle",
    "split",
    "transforms",
    "write",
]

# Loaded when first asked for: loading data needs neither multiprocessing nor the writer, nor always torch.
_LAZY = {
    "DataLoader": "e2eio.torch",
    "convert": "e2eio.conversion",
    "default_collate": "e2eio.torch",
    "export": "e2eio.exporters",
    "merge": "e2eio.reshard",
    "prefetch_to_device": "e2eio.device",
    "repack": "e2eio.reshard",
    "shuffle": "e2eio.reshard",
    "split": "e2eio.reshard",
    "write": "e2eio.shards",
}
_LAZY_MODULES = ("dali", "device", "jax", "lightning", "models", "xla")


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in _LAZY_MODULES:
        return import_module(f"e2eio.{name}")
    raise AttributeError(f"module 'e2eio' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
