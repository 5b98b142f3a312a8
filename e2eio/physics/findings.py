"""What a check has found, and how it counts while samples go by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["EXAMPLES", "SEVERITIES", "Finding", "Severity", "Tally"]

Severity = Literal["note", "warning", "failure"]

#: From the least to the worst.
SEVERITIES: Final[tuple[Severity, ...]] = ("note", "warning", "failure")

#: Sample numbers given with a finding, at most.
EXAMPLES: Final = 8


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or odd, with a dataset.

    Parameters
    ----------
    check : str
        Name of the rule, as in docs/tools.md.
    severity : {"note", "warning", "failure"}
    text : str
        What was found, where, and what was expected.
    advice : str
        What to do about it.
    count : int
        Samples concerned; of findings about channels and classes: channels, pixels, lines or classes.
    channel : str
        Empty: it is not about a channel.
    samples : tuple of int
        Some of the samples concerned, the lowest numbers first.
    """

    check: str
    severity: Severity
    text: str
    advice: str
    count: int
    channel: str = ""
    samples: tuple[int, ...] = ()


@dataclass(slots=True)
class Tally:
    """Counts samples and keeps the lowest numbers among them.

    Parameters
    ----------
    samples, pixels : int
        Counted so far.
    worst : float
        Largest absolute value.
    examples : list of int
        At most `EXAMPLES`, ascending.
    """

    samples: int = 0
    pixels: int = 0
    worst: float = 0.0
    examples: list[int] = field(default_factory=list)

    def add(self, ids: NDArray[np.int64], pixels: int = 0, worst: float = 0.0) -> None:
        """Count some more samples, each once."""
        self.samples += ids.size
        self.pixels += pixels
        self.worst = max(self.worst, worst)
        if ids.size:
            self.examples = merge_examples(self.examples, ids)


def merge_examples(examples: Sequence[int], ids: NDArray[np.int64]) -> list[int]:
    """Return the lowest numbers of both."""
    lowest = np.sort(ids)[:EXAMPLES].tolist()
    return sorted([*examples, *lowest])[:EXAMPLES]
