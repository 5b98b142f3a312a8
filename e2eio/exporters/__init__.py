"""Datasets as files that other programs read by themselves."""

from __future__ import annotations

from e2eio.exporters.run import FORMATS, ExportReport, export

__all__ = ["FORMATS", "ExportReport", "export"]
