"""How long, how often and how much at once servers are asked."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from typing import Any

from e2eio.errors import ConfigError

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of requests; each is taken from the environment variable ``E2EIO_REMOTE_<NAME>``.

    Parameters
    ----------
    tries : int
        Of one request, at most.
    timeout : float
        Seconds that a try may take.
    deadline : float
        Seconds that all tries of a request may take, with the pauses between them.
    backoff : float
        Seconds before the second try, about; doubled before each further one, and at most 10.
    requests : int
        At once, of one process.
    """

    tries: int = 5
    timeout: float = 30.0
    deadline: float = 180.0
    backoff: float = 0.2
    requests: int = 48

    @classmethod
    def from_environment(cls) -> Limits:
        """Return the limits that hold now.

        Raises
        ------
        ConfigError
            A variable is no positive number.
        """
        values: dict[str, Any] = {}
        for field in fields(cls):
            name = f"E2EIO_REMOTE_{field.name.upper()}"
            text = os.environ.get(name)
            if not text:
                continue
            kind = int if isinstance(field.default, int) else float
            try:
                value = kind(text)
            except ValueError:
                value = math.nan
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} is {text!r}; expected a number above 0")
            values[field.name] = value
        return cls(**values)
