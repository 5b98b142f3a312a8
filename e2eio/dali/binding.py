"""DALI, checked: the only module that imports it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from e2eio.errors import ConfigError, MissingDependencyError

try:
    # As Any: DALI's own annotations are partial, and refuse the device_id=None that its documentation asks for.
    dali: Any = import_module("nvidia.dali")
    fn: Any = import_module("nvidia.dali.fn")
    math: Any = import_module("nvidia.dali.math")
    types: Any = import_module("nvidia.dali.types")
    Pipeline: Any = import_module("nvidia.dali.pipeline").Pipeline
    plugin_manager: Any = import_module("nvidia.dali.plugin_manager")
    sysconfig: Any = import_module("nvidia.dali.sysconfig")
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "DALI is missing: needed for e2eio.dali; install it with 'pip install e2eio[dali]' (nvidia-dali-cuda120), "
        "or 'pip install nvidia-dali-cuda130' for CUDA 13; it runs without a GPU, too (device='cpu')"
    ) from error
except (ImportError, OSError) as error:
    raise MissingDependencyError(
        f"DALI is installed but does not load: {error}; its wheel has to fit the CUDA of this machine: "
        "nvidia-dali-cuda120 for CUDA 12, nvidia-dali-cuda130 for CUDA 13"
    ) from error

__all__ = [
    "Pipeline",
    "build",
    "check_version",
    "dali",
    "fn",
    "math",
    "pipeline_def",
    "plugin_manager",
    "sysconfig",
    "to_torch",
    "types",
]

#: The dynamic executor, checkpoints and this operator set: since 2.0; tested with 2.4.
OLDEST = (2, 0)


def check_version(version: str) -> None:
    """Refuse a DALI that is too old.

    Raises
    ------
    MissingDependencyError
        It is older than 2.0.
    """
    parts = version.split(".")
    if not all(part.isdigit() for part in parts[:2]) or tuple(map(int, parts[:2])) < OLDEST:
        raise MissingDependencyError(
            f"DALI {version} is too old: expected 2.0 or later; run 'pip install -U nvidia-dali-cuda120' "
            "(or -cuda130)"
        )


check_version(dali.__version__)
pipeline_def: Any = dali.pipeline_def


def build(pipe: Any) -> Any:
    """Build a pipeline now, so that what is missing is found here and not at the first batch.

    Raises
    ------
    ConfigError
        There is no GPU, or its driver does not go with this DALI; or the checkpoint is of another pipeline.
    """
    try:
        pipe.build()
    except RuntimeError as error:
        said = f"{str(error).strip()[:300]} (DALI {dali.__version__})"
        if pipe.device_id is None:
            raise ConfigError(
                f"the pipeline cannot be built: {said}; with checkpoint=, all other arguments have to be those "
                "that it was taken with"
            ) from error
        raise ConfigError(
            f"device is 'gpu' and DALI cannot use one: {said}; pass device='cpu', or check with nvidia-smi that "
            "there is a GPU whose driver supports the CUDA of this DALI (nvidia-dali-cuda120 or -cuda130)"
        ) from error
    return pipe


def to_torch(outputs: Sequence[Any], *, copy: bool) -> tuple[Any, ...]:
    """Return lists of tensors of DALI as torch tensors, [n, ...] each, on the device where they are."""
    try:
        convert = import_module("nvidia.dali.plugin.pytorch.torch_utils").to_torch_tensor
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "torch is missing: needed for e2eio.dali.iterator; install it with 'pip install e2eio[torch]'"
        ) from error
    return tuple(convert(output.as_tensor(), copy) for output in outputs)
