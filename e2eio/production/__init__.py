"""How a dataset comes to be, whoever makes it: workers, the directory they fill, what is finished.

Conversion, resharding and simulation write through this room.
"""

from __future__ import annotations

from e2eio.production.crew import Crew, start_progress
from e2eio.production.finished import FinishedShard, list_shards
from e2eio.production.target import ShardPlan, ShardRange, ShardTask, Target
from e2eio.production.workers import Job, WorkerCrash

__all__ = [
    "Crew",
    "FinishedShard",
    "Job",
    "ShardPlan",
    "ShardRange",
    "ShardTask",
    "Target",
    "WorkerCrash",
    "list_shards",
    "start_progress",
]
