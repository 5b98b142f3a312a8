"""Whether a dataset looks like physics: rules on pixels and samples, and on what a pass over all of them adds up to."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from e2eio.physics.channels import channel_kind
from e2eio.physics.findings import SEVERITIES, Finding, Severity, Tally
from e2eio.physics.rules import BEAM_GEV, CUT_CM, TRACKER_CM, Blocks, Pixels, Scalars, gev
from e2eio.summary import LOG, Accumulator, Classes, Content, Largest, Maps, Repeats, quantile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from e2eio.schema import Schema

__all__ = [
    "BALANCE",
    "CLASS_RATIO",
    "LINE_HITS",
    "OUTLIER_SIGMA",
    "Checks",
]

#: Mean sums of two energy channels that are further apart than this have different units or lack a factor: the wrong ones
#: that occur are 25 (HCAL towers copied to 5 x 5 crystals without division) and 1000 (MeV). A jet gives its tracks
#: about 65 % of its energy, 25 % to photons, 10 % to neutral hadrons (CMS, JINST 12 (2017) P10003).
BALANCE: Final = 20.0

#: The largest class by the smallest, from where on training needs weights.
CLASS_RATIO: Final = 10.0

#: Hits of the neighbouring rows (columns) on either side, on average, before an empty one counts as dead: towers of 5 x 5
#: pixels make 5 of a row's hits at once, so that it is 20 at least, and exp(-20) chance.
LINE_HITS: Final = 100.0

#: Of the logarithm of a channel's sum; tau code of the field drops jets beyond 10.
OUTLIER_SIGMA: Final = 10.0

_OUTLIER_RATIO: Final = 5.0  # and no outlier within this factor of the median
_OUTLIER_SAMPLES: Final = 50  # fewer have no width to speak of
_CONSTANT_SAMPLES: Final = 10  # fewer may be equal by chance
_LOW, _MIDDLE, _HIGH = 0.16, 0.5, 0.84  # one sigma to either side
_NEIGHBOURS: Final = 5

_NAN: Final = (
    "exclude these samples (e2eio convert --exclude) or replace the values before training"
)
_PIXEL_TEXTS: Final[dict[str, tuple[Severity, str, str]]] = {
    "not-finite": ("failure", "NaN or infinite pixels, expected finite ones", _NAN),
    "negative-energy": (
        "failure",
        "negative pixels, expected none: rechits and hits are not below zero",
        "convert from the unscaled source, or give the channel no unit if it was normalised",
    ),
    "beyond-beam-energy": (
        "warning",
        f"pixels above {BEAM_GEV:g} GeV, more than a proton of the beam has",
        "look whether the unit is right (MeV?), or clip them: e2eio.transforms",
    ),
    "track-tails": (
        "warning",
        "tracks beyond the cut that training code of the field makes",
        "real tails: clip or drop them in training (e2eio.transforms), as the published networks do",
    ),
    "outside-tracker": (
        "failure",
        "tracks outside of the tracker",
        "the values are scaled, or the channel is another: check the order of d0 and dz and the unit",
    ),
    "broken-hits": (
        "warning",
        "numbers of hits that are no whole numbers",
        "convert from the unscaled source, or give the channel no unit",
    ),
}

_LIMITS: Final = {"track-tails": CUT_CM, "outside-tracker": TRACKER_CM}


class Checks:
    """All checks of one dataset; show its accumulators a pass, then ask for the findings.

    Parameters
    ----------
    schema : Schema
    classes : Classes

    Examples
    --------
    >>> checks = Checks(dataset.schema, make_classes(dataset))  # doctest: +SKIP
    >>> run_pass(dataset, checks.accumulators, classes=checks.classes, progress=p)  # doctest: +SKIP
    >>> [finding.check for finding in checks.findings()]  # doctest: +SKIP
    ['track-tails']
    """

    def __init__(self, schema: Schema, classes: Classes) -> None:
        image = schema.image
        self.schema = schema
        self.classes = classes
        self.content = Content(len(classes.names), image.shape)
        self.maps = Maps(len(classes.names), image.shape)
        self.largest = Largest(len(image.channels))
        self.repeats = Repeats()
        self.pixels = Pixels(image.channels)
        self.blocks = Blocks(image)
        self.scalars = Scalars(schema.scalars)

    @property
    def accumulators(self) -> list[Accumulator]:
        """What a pass over the dataset has to be shown to."""
        return [
            *(self.content, self.maps, self.largest, self.repeats),
            *(self.pixels, self.blocks, self.scalars),
        ]

    def findings(self) -> list[Finding]:
        """Return what is wrong or odd, the worst first."""
        found = [
            *self._pixel_findings(),
            *self._block_findings(),
            *self._channel_findings(),
            *self._line_findings(),
            *self._balance_findings(),
            *self._outlier_findings(),
            *self._sample_findings(),
            *self._scalar_findings(),
            *self._class_findings(),
        ]
        return sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))

    def _pixel_findings(self) -> list[Finding]:
        found = []
        for (name, number), tally in self.pixels.tallies.items():
            severity, text, advice = _PIXEL_TEXTS[name]
            channel = self.schema.image.channels[number]
            worst = f", the largest {tally.worst:.4g} {channel.unit}" if tally.worst else ""
            if tally.samples:
                limit = _LIMITS.get(name, {}).get(channel.name.lower())
                edge = f" ({limit:g} cm)" if limit else ""
                text = f"{tally.pixels} {text}{edge}{worst}"
                found.append(_of(tally, name, severity, text, advice, channel.name))
        return found

    def _block_findings(self) -> list[Finding]:
        advice = (
            "the images were resized, moved or changed pixel by pixel; they load, but take more space, and "
            "a change of resolution blurs them"
        )
        found = []
        for number, tally in self.blocks.tallies.items():
            edge, name = self.blocks.blocks[number], self.schema.channels[number]
            text = f"not constant in blocks of {edge} x {edge} pixels, as upsampling makes them"
            if tally.samples:
                found.append(_of(tally, "blocks", "warning", text, advice, name))
        return found

    def _channel_findings(self) -> list[Finding]:
        found = []
        n = self.content.n_samples
        constant = self.maps.constant(n).sum(axis=(1, 2)) if self.maps.kept else None
        for number, name in enumerate(self.schema.channels):
            if n and not self.content.nonzero[number]:
                text = f"no pixel is filled in any of {n} samples"
                advice = "leave the channel out (channels=...), or look for what its producer lost"
                found.append(Finding("dead-channel", "warning", text, advice, 1, name))
            if constant is not None and constant[number] and n >= _CONSTANT_SAMPLES:
                text = f"{constant[number]} pixels have one value, not zero, in all {n} samples"
                advice = "a noisy cell or a pedestal: subtract it, or mask these pixels"
                count = int(constant[number])
                found.append(Finding("constant-pixels", "warning", text, advice, count, name))
        return found

    def _line_findings(self) -> list[Finding]:
        found = []
        for number, name in enumerate(self.schema.channels if self.maps.kept else ()):
            for what, axis in (("rows", 1), ("columns", 0)):
                dead = dead_lines(self.maps.hits[number].sum(axis=axis))
                if dead:
                    text = f"{what} {_listed(dead)} are never filled, their neighbours are"
                    advice = "a dead region of the detector or a seam of the producer: mask it or know it"
                    found.append(Finding("dead-lines", "warning", text, advice, len(dead), name))
        return found

    def _balance_findings(self) -> list[Finding]:
        n = max(self.content.n_samples, 1)
        means = {
            channel.name: float(total) * gev(channel) / n
            for channel, total in zip(self.schema.image.channels, self.content.totals, strict=True)
            if channel_kind(channel) == "energy" and total > 0
        }
        if not means or max(means.values()) <= BALANCE * min(means.values()):
            return []
        listed = ", ".join(f"{name} {mean:.4g}" for name, mean in means.items())
        text = (
            f"mean energies differ by more than a factor {BALANCE:g}: {listed} GeV; expected the same order "
            "of size of tracks, ECAL and HCAL"
        )
        advice = "a unit (MeV?) or the factor 25 of HCAL's upsampling: compare with the source"
        least = min(means, key=lambda name: means[name])
        return [Finding("energy-balance", "warning", text, advice, 1, least)]

    def _outlier_findings(self) -> list[Finding]:
        found = []
        for number, channel in enumerate(self.schema.image.channels):
            if self.content.n_samples < _OUTLIER_SAMPLES or channel_kind(channel) == "length":
                continue
            histogram = self.content.sums[:, number].sum(axis=0)
            limit = outlier_limit(histogram)
            count = 0 if limit is None else int(histogram[0, 1 + limit :].sum())
            if limit is None or not count:
                continue
            edge = float(LOG.edges[limit])
            above = self.largest.sum_ids[self.largest.sums[:, number] >= edge, number]
            text = (
                f"{count} samples with a sum above {edge:.4g} {channel.unit}, far from all others"
            )
            advice = "look at them: e2eio view DATA --samples ..."
            samples = tuple(sorted(above.tolist()))
            found.append(Finding("outliers", "note", text, advice, count, channel.name, samples))
        return found

    def _sample_findings(self) -> list[Finding]:
        found = []
        if self.pixels.empty.samples:
            advice = "leave them out: e2eio convert --exclude, or Loader(exclude=...)"
            text = f"{self.pixels.empty.samples} samples without any filled pixel"
            found.append(_of(self.pixels.empty, "empty-samples", "warning", text, advice))
        groups = self.repeats.groups()
        if groups:
            extra = sum(group.size - 1 for group in groups) << self.repeats.bits
            about = "about " if self.repeats.bits else ""
            text = f"{about}{extra} samples have the same image as an earlier one"
            advice = "a source that was converted twice? keep copies out of the test set"
            pairs = np.concatenate([group[:2] for group in groups])[:8]
            samples = tuple(pairs.tolist())
            found.append(Finding("duplicates", "warning", text, advice, extra, samples=samples))
        return found

    def _scalar_findings(self) -> list[Finding]:
        found = []
        for name, tally in self.scalars.nonfinite.items():
            if tally.samples:
                text = f"scalar {name!r} is NaN or infinite in {tally.samples} samples"
                found.append(_of(tally, "scalar-not-finite", "failure", text, _NAN))
        for name, tally in self.scalars.negative.items():
            if tally.samples:
                text = f"scalar {name!r} is an energy below zero in {tally.samples} samples"
                advice = "a placeholder for what is missing? exclude these samples"
                found.append(_of(tally, "negative-scalar", "warning", text, advice))
        return found

    def _class_findings(self) -> list[Finding]:
        if not self.classes.exact or not self.content.class_samples.sum():
            return []
        sizes = self.content.class_samples
        listed = ", ".join(
            f"{name}: {size}" for name, size in zip(self.classes.names, sizes, strict=True)
        )
        present = sizes[sizes > 0]
        if len(present) == 1 and self.content.n_samples > 1:
            text = f"all samples are of one class ({listed})"
            advice = "join it with the other classes for training: Dataset([a, b])"
            return [Finding("one-class", "note", text, advice, 1)]
        if present.max() > CLASS_RATIO * present.min():
            text = f"classes differ by more than a factor {CLASS_RATIO:g} ({listed})"
            advice = "balance them: Loader(weights=e2eio.sampling.balanced(...))"
            return [Finding("class-balance", "warning", text, advice, len(present))]
        return []


def dead_lines(hits: NDArray[np.int64]) -> list[int]:
    """Return the rows (or columns) that are never filled between neighbours that are.

    Parameters
    ----------
    hits : int64 [H]
        Filled pixels of each row, over all samples.

    Examples
    --------
    >>> hits = np.full(20, 500)
    >>> hits[[7, 8]] = 0
    >>> hits[:3] = 0  # the edge: nothing says that there should be hits
    >>> dead_lines(hits)
    [7, 8]
    """
    live = np.flatnonzero(hits)
    dead: list[int] = []
    for left, right in pairwise(live):
        if right - left > 1:
            before = hits[max(left - _NEIGHBOURS + 1, 0) : left + 1].mean()
            after = hits[right : right + _NEIGHBOURS].mean()
            if min(before, after) >= LINE_HITS:
                dead.extend(range(int(left) + 1, int(right)))
    return dead


def outlier_limit(histogram: NDArray[np.int64]) -> int | None:
    """Return the first bin of outliers in a histogram of sums int64 [2, LOG.n + 2]; None: no width to tell.

    The width is that of the logarithm, from the quantiles, so that outliers do not hide themselves.
    """
    edges = LOG.edges
    values = np.concatenate([[0.0], np.sqrt(edges[:-1] * edges[1:]), [edges[-1]]])
    filled = histogram[0].copy()
    filled[0] = 0  # empty channels are not small ones
    middle = quantile(filled, values, _MIDDLE)
    high = quantile(filled, values, _HIGH)
    low = quantile(filled, values, _LOW)
    if middle is None or high is None or low is None or filled.sum() < _OUTLIER_SAMPLES:
        return None
    sigma = max(np.log(high / middle), np.log(middle / low), np.log(edges[1] / edges[0]) / 2)
    ratio = max(np.exp(OUTLIER_SIGMA * sigma), _OUTLIER_RATIO)
    limit = int(np.searchsorted(edges, middle * ratio))
    return limit if limit < LOG.n else None


def _of(
    tally: Tally, check: str, severity: Severity, text: str, advice: str, channel: str = ""
) -> Finding:
    return Finding(check, severity, text, advice, tally.samples, channel, tuple(tally.examples))


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return shown + (", ..." if len(numbers) > 8 else "")
