"""Conversion of foreign files into a dataset: planned, parallel, interruptible, reproducible."""

from __future__ import annotations

from e2eio.conversion.arguments import OPTION_NAMES, make_options
from e2eio.conversion.plan import Plan, PlanOptions, Task
from e2eio.conversion.run import convert, plan_conversion
from e2eio.conversion.work import write_shard
from e2eio.production import FinishedShard

__all__ = [
    "OPTION_NAMES",
    "FinishedShard",
    "Plan",
    "PlanOptions",
    "Task",
    "convert",
    "make_options",
    "plan_conversion",
    "write_shard",
]
