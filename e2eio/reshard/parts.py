"""Which samples of a dataset go to which part of it: every sample to one part at most, by exact counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from e2eio import _core
from e2eio.dataset import Dataset
from e2eio.errors import ConfigError
from e2eio.options import plan_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ids = NDArray[np.int64]

__all__ = ["by_field", "consecutive", "drawn", "make_parts", "part_sizes"]

_MOST_PARTS: Final = 10_000
_EXACT: Final = Fraction(1, 10**9)  # fractions that add up to 1 but for this are meant to


def make_parts(
    dataset: Dataset,
    fractions: Mapping[str, float] | None,
    samples: int | Mapping[str, int] | None,
    by: str | None,
    stratify: str | None,
    group: Sequence[str],
    seed: int,
) -> tuple[dict[str, Ids], dict[str, object]]:
    """Return the sample numbers of each part that `split` makes, rising, and what provenance says of how.

    Raises
    ------
    ConfigError
        An argument is wrong, or a part would be empty.
    """
    if sum(given is not None for given in (fractions, samples, by)) != 1:
        raise ConfigError("no way to split: expected exactly one of fractions, samples and by")
    said: dict[str, object] = {"fractions": _plain(fractions), "samples": _plain(samples)}
    sizes = fractions if fractions is not None else samples
    if isinstance(sizes, Mapping):
        said |= {"seed": int(seed), "stratify": stratify, "group": list(group)}
        return drawn(dataset, sizes, seed=seed, stratify=stratify, group=group), said
    if stratify is not None or group:
        raise ConfigError("stratify and group are for parts that are drawn: by fractions or sizes")
    said["by"] = by
    if by is not None:
        return by_field(dataset, by), said
    return consecutive(len(dataset), int(sizes or 0)), said


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else value


def part_sizes(wanted: Mapping[str, float] | Mapping[str, int], n: int) -> dict[str, int]:
    """Return how many of `n` samples each part gets.

    Parameters
    ----------
    wanted : mapping
        Name to fraction (float), or to number of samples (int). Fractions are rounded by largest
        remainder: what they add up to is kept exactly.
    n : int

    Raises
    ------
    ConfigError
        They add up to more than there is, or one is not above 0.

    Examples
    --------
    >>> part_sizes({"train": 0.8, "valid": 0.1, "test": 0.1}, 128)
    {'train': 102, 'valid': 13, 'test': 13}
    """
    if not wanted:
        raise ConfigError("no parts: found none, expected as in train=0.8,test=0.2")
    for name, value in wanted.items():
        _check_name(name)
        if isinstance(value, bool) or not value > 0 or not math.isfinite(value):
            raise ConfigError(f"wrong size of part {name!r}: found {value!r}, expected above 0")
    if all(isinstance(value, int) for value in wanted.values()):
        total = sum(wanted.values())
        if total > n:
            raise ConfigError(
                f"parts too large: found {total} samples in all, expected at most {n}"
            )
        return {name: int(value) for name, value in wanted.items()}
    # As written: 0.1 is a tenth here, not the double beside it.
    shares = {name: Fraction(repr(float(value))) for name, value in wanted.items()}
    total_share = sum(shares.values(), Fraction(0))
    if total_share > 1 + _EXACT:
        raise ConfigError(
            f"parts too large: found fractions that add up to {float(total_share):g}, expected at most 1"
        )
    if total_share > 1 - _EXACT:
        shares = {name: share / total_share for name, share in shares.items()}
    return dict(zip(shares, _rounded([share * n for share in shares.values()]), strict=True))


def _check_name(name: str) -> None:
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise ConfigError(f"wrong name of a part: found {name!r}, expected that of a directory")


def _rounded(sizes: Sequence[Fraction]) -> list[int]:
    """Round to integers whose sum is that of the sizes, rounded: the largest remainders go up."""
    floors = [math.floor(size) for size in sizes]
    n_up = round(sum(sizes, Fraction(0))) - sum(floors)
    order = sorted(range(len(sizes)), key=lambda k: (floors[k] - sizes[k], k))
    for k in order[:n_up]:
        floors[k] += 1
    return floors


def drawn(
    dataset: Dataset,
    wanted: Mapping[str, float] | Mapping[str, int],
    *,
    seed: int,
    stratify: str | None,
    group: Sequence[str],
) -> dict[str, Ids]:
    """Draw parts at random: the sample numbers of each, rising.

    Sample i is at place p(i) of the order in which a Loader with this seed shuffles the dataset; the
    first places are the first part's, and so on.

    Parameters
    ----------
    dataset : Dataset
    wanted
        As for `part_sizes`.
    seed : int
        From 0.
    stratify : str or None
        A scalar field: the samples of each of its values are divided like the whole, to within one
        sample for each part and one more. The parts' sizes stay exact.
    group : sequence of str
        Scalar fields: samples that agree in all of them go to the same part. A group goes where the
        middle of it falls, so sizes are those asked for as far as groups allow.

    Raises
    ------
    ConfigError
        An argument is wrong, or a part would be empty.
    """
    n = len(dataset)
    sizes = part_sizes(wanted, n)
    key = plan_key(dataset.digest, seed)
    if group:
        if stratify is not None:
            raise ConfigError("both stratify and group given: expected one of them")
        parts = _by_group(dataset, list(sizes.values()), key, group)
    elif stratify is not None:
        parts = _by_stratum(dataset, list(sizes.values()), key, stratify)
    else:
        ends = np.cumsum(list(sizes.values()))
        parts = np.searchsorted(ends, _places(n, key), side="right")
    return _named(list(sizes), [np.flatnonzero(parts == k) for k in range(len(sizes))])


def _places(n: int, key: int) -> Ids:
    """Return the place of each sample in the shuffled order: the permutation's inverse."""
    places = np.empty(n, np.int64)
    if n:
        places[_core.Order.shuffled(n, key).ids(0, 0, n)] = np.arange(n, dtype=np.int64)
    return places


def _by_stratum(dataset: Dataset, sizes: list[int], key: int, field: str) -> Ids:
    """Deal the samples of each value of the field, in the shuffled order, to the parts in even turns.

    The parts' turns lie as evenly as they can among those of the whole dataset, so that they do among
    those of each value, too.
    """
    n = len(dataset)
    _, strata = np.unique(dataset.scalars(field), return_inverse=True)
    counts = [*sizes, n - sum(sizes)]  # the last: in no part
    turns = np.concatenate([(np.arange(count) + 0.5) / max(count, 1) for count in counts])
    owners = np.repeat(np.arange(len(counts)), counts)
    parts = np.empty(n, np.int64)
    parts[np.lexsort((_places(n, key), strata))] = owners[np.argsort(turns, kind="stable")]
    return parts


def _by_group(dataset: Dataset, sizes: list[int], key: int, fields: Sequence[str]) -> Ids:
    groups = np.zeros(len(dataset), np.int64)
    for field in fields:
        _, values = np.unique(dataset.scalars(field), return_inverse=True)
        _, groups = np.unique(groups * (values.max(initial=0) + 1) + values, return_inverse=True)
    counts = np.bincount(groups, minlength=1)
    order = np.argsort(_places(len(counts), key))
    ends = np.cumsum(counts[order])
    parts = np.empty(len(counts), np.int64)
    # Twice the middle of each group, so that it is an integer.
    parts[order] = np.searchsorted(2 * np.cumsum(sizes), 2 * ends - counts[order], side="left")
    return np.asarray(parts[groups], np.int64)


def by_field(dataset: Dataset, field: str) -> dict[str, Ids]:
    """Return a part for each value of a scalar field, named ``field=value``, by rising value.

    Raises
    ------
    ConfigError
        There is no such field, or it has more than 10,000 values.
    """
    values, numbers = np.unique(dataset.scalars(field), return_inverse=True)
    if len(values) > _MOST_PARTS:
        raise ConfigError(
            f"too many parts: {field} has {len(values)} values, expected at most {_MOST_PARTS}; "
            "split by a field that counts or labels"
        )
    names = [f"{field}={_text(value)}" for value in values]
    return _named(names, [np.flatnonzero(numbers == k) for k in range(len(values))])


def _text(value: Any) -> str:
    plain = value.item()
    if isinstance(plain, int) or (plain.is_integer() and abs(plain) < 1e15):
        return str(int(plain))
    return str(value)


def consecutive(n: int, n_samples: int) -> dict[str, Ids]:
    """Return parts of `n_samples` samples in file order, the last one of what is left.

    Examples
    --------
    >>> {name: ids.tolist() for name, ids in consecutive(5, 2).items()}
    {'part-00000': [0, 1], 'part-00001': [2, 3], 'part-00002': [4]}
    """
    if n_samples < 1:
        raise ConfigError(f"wrong number of samples: found {n_samples!r}, expected at least 1")
    n_parts = -(-n // n_samples)
    if n_parts > _MOST_PARTS:
        raise ConfigError(
            f"too many parts: found {n_parts}, expected at most {_MOST_PARTS}; make them larger"
        )
    begins = range(0, n, n_samples)
    return {
        f"part-{k:05d}": np.arange(begin, min(begin + n_samples, n), dtype=np.int64)
        for k, begin in enumerate(begins)
    }


def _named(names: Sequence[str], parts: Sequence[Ids]) -> dict[str, Ids]:
    for name, ids in zip(names, parts, strict=True):
        if len(ids) == 0:
            raise ConfigError(
                f"empty part: {name!r} would have no sample; make it larger, or leave it out"
            )
    return dict(zip(names, parts, strict=True))
