"""The part of ``e2eio verify --physics`` that looks at pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e2eio.physics import Finding

__all__ = ["Judged", "judge"]


@dataclass(frozen=True, slots=True)
class Judged:
    """What the checks found in one dataset.

    Parameters
    ----------
    path : str
    n_samples : int
        That were looked at.
    findings : list of Finding
        The worst first.
    """

    path: str
    n_samples: int
    findings: list[Finding]

    @property
    def failed(self) -> bool:
        """Whether there is a failure among the findings."""
        return any(finding.severity == "failure" for finding in self.findings)

    def lines(self) -> list[str]:
        """Return the findings as text, one a line."""
        counts = ", ".join(
            f"{sum(finding.severity == severity for finding in self.findings)} {severity}(s)"
            for severity in ("failure", "warning", "note")
        )
        return [
            *(_line(finding) for finding in self.findings),
            f"physics: {self.path}: {self.n_samples} samples looked at: {counts}",
        ]


def _line(finding: Finding) -> str:
    where = f" in {finding.channel!r}" if finding.channel else ""
    samples = ", ".join(map(str, finding.samples))
    example = f"; samples {samples}" if samples else ""
    return f"{finding.severity}: {finding.check}{where}: {finding.text}; {finding.advice}{example}"


def judge(path: str, *, limit: int | None, quiet: bool) -> Judged:
    """Look at all samples of a dataset (or at `limit` of them) once."""
    from e2eio.dataset import Dataset
    from e2eio.physics import Checks
    from e2eio.progress import make_progress
    from e2eio.summary import make_classes, run_pass

    dataset = Dataset(path)
    checks = Checks(dataset.schema, make_classes(dataset))
    with make_progress(not quiet, verb="looked at") as progress:
        n = run_pass(
            dataset,
            checks.accumulators,
            classes=checks.classes,
            limit=limit,
            progress=progress,
        )
    return Judged(path, n, checks.findings())
