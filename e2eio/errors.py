"""Every error that e2eio raises.

The C++ core raises these classes through one translation table; each keeps its parts as attributes, so that a program can
act on them, and survives pickling, so that it crosses process boundaries unharmed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = [
    "ConfigError",
    "CorruptShardError",
    "DecodeError",
    "E2eioError",
    "ForkError",
    "ImporterError",
    "InternalError",
    "MissingDependencyError",
    "PlanMismatchError",
    "RankMissingError",
    "SchemaMismatchError",
    "ShardExistsError",
    "ShardIOError",
    "ShardNotFoundError",
    "StaleBatchError",
    "StateError",
    "UnsupportedFormatError",
]


class E2eioError(Exception):
    """Root of all errors raised by e2eio.

    Parameters
    ----------
    message : str
        What, where, found, expected, and what to do.
    path : str or None
        File concerned.
    sample : int or None
        Sample number within that file.
    offset_bytes : int or None
        Byte offset within that file.
    errno : int or None
        The system's error number, if the system refused.
    """

    def __init__(
        self,
        message: str = "",
        path: str | None = None,
        sample: int | None = None,
        offset_bytes: int | None = None,
        errno: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.sample = sample
        self.offset_bytes = offset_bytes
        self.errno = errno

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.message, self.path, self.sample, self.offset_bytes, self.errno))


class ConfigError(E2eioError, ValueError):
    """An argument is wrong; the caller can mend it by changing the argument."""


class SchemaMismatchError(ConfigError):
    """Shards or sources that should have one schema have several."""


class StateError(ConfigError):
    """A saved state does not fit the loader that is to go on from it."""


class ShardIOError(E2eioError, OSError):
    """The system refused to read or write; trying again may help."""


class ShardNotFoundError(ShardIOError, FileNotFoundError):
    """There is no such file or directory."""


class ShardExistsError(ShardIOError, FileExistsError):
    """The target exists and overwriting was not asked for."""


class CorruptShardError(E2eioError):
    """The bytes disagree with the format or with their checksum; trying again does not help."""


class UnsupportedFormatError(E2eioError):
    """The file is valid, but of a version or with a feature that this build cannot read."""


class DecodeError(CorruptShardError):
    """A record's content breaks the format although its checksum is right (or was not looked at)."""


class StaleBatchError(E2eioError):
    """A delivered batch was written into, although the loader was told that it would not be."""


class ImporterError(E2eioError):
    """A source file in a foreign format cannot be imported."""


class MissingDependencyError(E2eioError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""


class ForkError(E2eioError, RuntimeError):
    """A loader with running threads was used in a forked child."""


class PlanMismatchError(E2eioError, RuntimeError):
    """The ranks of one job were told to load different things.

    Parameters
    ----------
    message : str
        What differs, on which ranks, and what to do.
    differences : mapping
        For each item that differs: its values, as texts, each with the ranks that have it.
    """

    def __init__(
        self,
        message: str = "",
        differences: Mapping[str, Mapping[str, Sequence[int]]] | None = None,
    ) -> None:
        super().__init__(message)
        self.differences = dict(differences or {})

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.message, self.differences))


class RankMissingError(E2eioError, TimeoutError):
    """Some ranks of the job did not come to where all have to meet.

    Parameters
    ----------
    message : str
        Who did not come, within what time, and what to do.
    missing : sequence of int
        Ranks that did not come, as far as this rank could find out.
    """

    def __init__(self, message: str = "", missing: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.message, self.missing))


class InternalError(E2eioError, RuntimeError):
    """A bug in e2eio; please report it."""
