"""The network of the End-to-End benchmarks and how it is trained; docs/models.md."""

from __future__ import annotations

from e2eio.errors import MissingDependencyError

try:
    from e2eio.models.objective import loss, scores
    from e2eio.models.resnet import ResNet15, resnet15
    from e2eio.models.training import optimizer, schedule
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise MissingDependencyError(
        "torch is missing: needed for e2eio.models; install it with 'pip install e2eio[torch]'"
    ) from error

__all__ = ["ResNet15", "loss", "optimizer", "resnet15", "schedule", "scores"]
