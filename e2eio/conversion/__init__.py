"""Conversion of foreign files into a dataset: planned, parallel, interruptible, reproducible."""

from __future__ import annotations

from e2eio.conversion.run import convert

__all__ = ["convert"]
