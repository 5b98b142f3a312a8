"""From a caller's arguments to the options of a plan, and to the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from e2eio.conversion.plan import Label, Plan, PlanOptions, SourceFile, make_plan
from e2eio.conversion.sources import Sources, common_schema, expand, labels_of, read_source
from e2eio.errors import ConfigError, ImporterError
from e2eio.importers import ImportOptions
from e2eio.production import Crew, Job
from e2eio.progress import Progress
from e2eio.schema import Schema

__all__ = ["OPTION_NAMES", "make_options", "prepare"]

_FILES_PER_PROCESS = 16  # opened one after the other before another process is started for that

# A label is a source's, not an option of all.
_IMPORT_NAMES = tuple(field.name for field in fields(ImportOptions) if field.name != "label")

#: Parameters of `convert` that are options of its plan.
OPTION_NAMES = (
    *_IMPORT_NAMES,
    *(field.name for field in fields(PlanOptions) if field.name != "imports"),
)


def make_options(**given: Any) -> PlanOptions:
    """Return the options of a plan: what decides the bytes of the result, but for the sources.

    Parameters
    ----------
    **given
        Parameters of `convert` that `OPTION_NAMES` has; the others get the same defaults.

    Raises
    ------
    ConfigError
        One is wrong.

    Examples
    --------
    >>> make_options(channels=["ecal", "hcal"], exclude=[3, 1]).exclude
    (1, 3)
    """
    plain = {
        name: _PLAIN[name](value) if name in _PLAIN else value for name, value in given.items()
    }
    imports = {name: plain.pop(name) for name in _IMPORT_NAMES if name in plain}
    return PlanOptions(ImportOptions(**imports), **plain)


def prepare(
    sources: Sources,
    options: PlanOptions,
    crew: Crew,
    progress: Progress,
    *,
    labels: Sequence[object] | None = None,
    label_field: str = "y",
) -> Plan:
    """Open all sources once, and return what is to be done: the same on every machine.

    Parameters
    ----------
    sources, labels, label_field
        As of `convert`.
    options : PlanOptions
    crew : Crew
        Opens the sources.
    progress : Progress
        Told of files that are left out.

    Raises
    ------
    ConfigError, SchemaMismatchError, ImporterError, ShardIOError
        As `convert`.
    """
    files, notes = expand(sources, labels_of(labels, label_field))
    for note in notes:
        progress.note(note)
    jobs = [_reading(path, label, options.imports) for path, label in files]
    done = crew.do(jobs, _ignore, at_most=len(jobs) // _FILES_PER_PROCESS + 1)
    found: dict[int, tuple[Schema, SourceFile]] = dict(done)
    read = [found[index] for index in range(len(jobs))]
    return make_plan(common_schema(read), tuple(file for _, file in read), options)


def _reading(path: str, label: Label | None, options: ImportOptions) -> Job:
    def place(_: int) -> tuple[str, str]:
        return "opening it", "fetch the file again, or leave the file out"

    return Job(path, place, _read_source, (path, label, options), "reader", ImporterError)


def _read_source(
    path: str, label: Label | None, options: ImportOptions, tick: Callable[[int], None]
) -> tuple[Schema, SourceFile]:
    tick(0)
    return read_source(path, label, options)


def _ignore(_: int) -> None:
    pass


def _shape(shape: Sequence[int] | None) -> tuple[int, int, int] | None:
    if shape is None:
        return None
    if len(shape) != 3:
        raise ConfigError(f"wrong shape: found {tuple(shape)!r}, expected C, H, W")
    return (int(shape[0]), int(shape[1]), int(shape[2]))


def _texts(values: Sequence[str] | None) -> tuple[str, ...] | None:
    if isinstance(values, str):
        raise ConfigError(f"wrong list of names: found the text {values!r}, expected a sequence")
    return None if values is None else tuple(values)


def _pairs(names: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple((names or {}).items())


def _rising(numbers: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(numbers)))


# What makes an argument of `convert` what the options hold.
_PLAIN: Final[dict[str, Callable[[Any], Any]]] = {
    "shape": _shape,
    **dict.fromkeys(("channels", "units", "meta", "scalars"), _texts),
    "rename": _pairs,
    "exclude": _rising,
}
