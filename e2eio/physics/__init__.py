"""What is known about the images as physics: kinds of channels, places of pixels, and checks."""

from __future__ import annotations

from e2eio.physics.channels import Kind, channel_kind, is_signed
from e2eio.physics.checks import Checks
from e2eio.physics.findings import SEVERITIES, Finding, Severity
from e2eio.physics.geometry import Axes, image_axes, native_block

__all__ = [
    "SEVERITIES",
    "Axes",
    "Checks",
    "Finding",
    "Kind",
    "Severity",
    "channel_kind",
    "image_axes",
    "is_signed",
    "native_block",
]
