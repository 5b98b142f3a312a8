"""Results: one file, to which each finished run is added at once, so that nothing is done twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from learning.runs import Run

__all__ = ["FORMAT", "Results"]

FORMAT, VERSION = "e2eio-training", 1


class Results:
    """The file `training.json` of a results folder.

    Attributes
    ----------
    content : dict
        `format`, `version`, `environment` and `options` of the last call, `parts` (title of the part to the keys of
        its runs) and `runs` (key to the `run` and what was found).
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "training.json"
        self.content: dict[str, Any] = _empty()
        self.reload()

    def reload(self) -> None:
        """Read what is there: another process may have added to it."""
        if self.path.exists():
            self.content = json.loads(self.path.read_text(encoding="utf-8"))
        if self.content.get("format") != FORMAT:
            found = self.content.get("format")
            raise ValueError(
                f"{self.path} has format {found!r}, expected {FORMAT!r}: name another --out"
            )

    def find(self, run: Run) -> dict[str, Any] | None:
        """Return what is known of a run, or None."""
        found: dict[str, Any] | None = self.content["runs"].get(run.key)
        return found

    def of_part(self, part: str) -> list[dict[str, Any]]:
        """Return those runs of a part that are done, in its order: what each is and what it found."""
        runs = self.content["runs"]
        done = [runs[key] for key in self.content["parts"].get(part, []) if key in runs]
        return [{**found, **found["run"]} for found in done]

    def begin(self, environment: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """Note with what the program was called."""
        self.reload()
        self.content.update(environment=dict(environment), options=dict(options))

    def plan(self, part: str, runs: Iterable[Run]) -> None:
        """Note which runs a part is made of."""
        self.content["parts"][part] = [run.key for run in runs]
        self._write()

    def add(self, run: Run, found: Mapping[str, Any]) -> None:
        """Keep a finished run; it is on the disk when this returns."""
        known = self.content
        self.reload()
        self.content["parts"].update(known["parts"])
        self.content.update(environment=known["environment"], options=known["options"])
        self.content["runs"][run.key] = {"run": run.to_json(), **found}
        self._write()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as file:
            file.write(_dump(self.content))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)  # a kill leaves the old file or the new one


def _empty() -> dict[str, Any]:
    head: dict[str, Any] = {"format": FORMAT, "version": VERSION, "environment": {}, "options": {}}
    return {**head, "parts": {}, "runs": {}}


def _dump(content: Mapping[str, Any]) -> str:
    """JSON with a line for each run: long lists of numbers would take a line for each number."""
    head = json.dumps({**content, "runs": {}}, indent=1)
    runs = content["runs"]
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(runs[key])}" for key in sorted(runs))
    before = head.rindex("{}")
    return f"{head[:before]}{{\n{lines}\n }}{head[before + 2 :]}\n"
