"""What a dataset holds, in 128 bits, however it is cut into shards (docs/format.md, section 7.1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["content_digest", "join_contents"]

# A polynomial hash, so that the hash of two parts follows from theirs. The modulus is a Mersenne
# prime; the base is one of the many that will do: multipliers of O'Neill's PCG, joined.
_MODULUS: Final = 2**127 - 1
_BASE: Final = 0x5851F42D4C957F2D14057B7EF767814F


def content_digest(sample_digests: NDArray[np.uint64]) -> str:
    """Return the digest of samples in their order, from those of each.

    Parameters
    ----------
    sample_digests : array, uint64 [n]
        As `ShardReader.sample_digests` and `ShardWriter.sample_digests` give them.

    Examples
    --------
    >>> import numpy as np
    >>> content_digest(np.array([0, 1], np.uint64))
    '5851f42d4c957f2d14057b7ef7678151'
    """
    value = 0
    for digest in sample_digests.tolist():
        value = (value * _BASE + digest + 1) % _MODULUS
    return f"{value:032x}"


def join_contents(parts: Iterable[tuple[int, str]]) -> str:
    """Return the digest of parts that follow one another, from the samples and digest of each.

    Examples
    --------
    >>> import numpy as np
    >>> one, other = np.array([5, 6], np.uint64), np.array([7], np.uint64)
    >>> joined = join_contents([(2, content_digest(one)), (1, content_digest(other))])
    >>> joined == content_digest(np.concatenate([one, other]))
    True
    """
    value = 0
    for n_samples, digest in parts:
        value = (value * pow(_BASE, n_samples, _MODULUS) + int(digest, 16)) % _MODULUS
    return f"{value:032x}"
