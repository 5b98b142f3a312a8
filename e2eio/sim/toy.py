"""Boosted-top-like jet images from a few dozen random numbers per particle.

This is a parametrised toy for demonstrations, tests and benchmarks of input and output. It is *not*
a simulation: there is no matrix element, no shower and no detector, and nothing measured on it says
anything about physics. For that, generate events with a Monte Carlo program.

What it does copy is what decides the cost of storing and reading: which pixels are filled, how
many, and how their values are distributed. Its constants come from two sources, named at each:

* "recipe": the CMS E2E recipe, the detector model behind test files in the published layout:
  crystals of 0.0174, towers of 5 x 5 crystals, a field of 3.8 T, ECAL at 1.29 m, pixel layers at
  4.4, 7.3 and 10.2 cm, tracks above 0.5 GeV, ECAL above 80 MeV, impact parameters resolved to
  10 (+) 90/pT um and 30 (+) 130/pT um (pT in GeV, (+) a sum in quadrature).
* "measured": medians, quantiles and radial profiles of 128 jets in the published layout at x1.

Measured per jet: 54 track pixels, 495 ECAL pixels, 48 HCAL towers, 126 hits in a pixel layer, 11 %
of all pixels filled in some channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from e2eio.errors import ConfigError
from e2eio.schema import Channel, ImageField, ScalarField, Schema
from e2eio.sim.detector import (
    CHARGED,
    CRYSTAL_RAD,
    CRYSTALS,
    MARGIN,
    TOWER_CRYSTALS,
    TRACK_MIN_GEV,
    Particles,
    fill_image,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["ToyJets", "toy_jets"]

CHANNELS: Final = (
    ("track_pt", "GeV"),
    ("d0", "cm"),
    ("dz", "cm"),
    ("ecal", "GeV"),
    ("hcal", "GeV"),
    ("bpix1", "hits"),
    ("bpix2", "hits"),
    ("bpix3", "hits"),
)

# Jets (measured): pT falls exponentially from 400 GeV (quartiles 439, 498, 583); masses by class.
PT_RANGE_GEV: Final = (400.0, 1000.0)
PT_SCALE_GEV: Final = 130.0
QCD_MASS_GEV: Final = (81.0, 0.5)  # median and log-width
TOP_MASS_GEV: Final = (172.0, 10.0)  # mean and width of the 70 % whose decay is contained
TOP_CONTAINED: Final = 0.7

# Content: tuned until pixel counts, radial profiles and energy sums agreed with the measured ones.
FRAGMENTS: Final = (  # per kind: share of a prong's pT; particles per prong, and per GeV of it
    (0.54, 5.0, 0.022),
    (0.30, 3.0, 0.016),
    (0.20, 1.0, 0.008),
)
SHARE_SHAPE: Final = 0.5
TRANSVERSE_GEV: Final = 0.4
PILEUP_PARTICLES: Final = (120.0, 42.0, 22.0)  # per kind, on the image and its margin
# Of the charged: above 0.5 GeV, where they make tracks and not only pixel hits.
PILEUP_HARD: Final = 0.30
# Of the gamma distribution of a jet's pile-up: it varies by 30 % from jet to jet.
PILEUP_SHAPE: Final = 11.0


class ToyJets:
    """An endless, numbered series of toy jets.

    Jet `i` depends on `seed` and `i` alone, whatever else is asked for, and is the same jet at both
    resolutions: at x3 tracks and pixel hits have finer positions, and calorimeter deposits are
    shared by more pixels; track pT, energies and hits add up to the same. The series is the same
    wherever numpy's random streams are (they may change between numpy's minor versions).

    Parameters
    ----------
    resolution : {1, 3}
        Pixels per crystal edge: images are [8, 125, 125] or [8, 375, 375].
    seed : int
        From 0 to 2^64 - 1; selects the series.

    Raises
    ------
    ConfigError
        If the resolution is neither 1 nor 3, or the seed is out of range.

    Examples
    --------
    >>> images, scalars = ToyJets(seed=7).chunk(0, 4)
    >>> images.shape, images.dtype
    ((4, 8, 125, 125), dtype('float32'))
    >>> sorted(scalars)
    ['m0', 'pt', 'y']
    """

    def __init__(self, *, resolution: int = 1, seed: int = 0) -> None:
        if resolution not in (1, 3):
            raise ConfigError(f"unknown resolution: found {resolution!r}, expected 1 or 3")
        if not 0 <= seed < 2**64:
            raise ConfigError(f"seed out of range: found {seed!r}, expected 0 to 2^64 - 1")
        self.resolution = resolution
        self.seed = seed

    @property
    def schema(self) -> Schema:
        """Image `X_jets`, scalars `y` (0 QCD, 1 top), `m0` and `pt` (GeV); all float32."""
        edge = CRYSTALS * self.resolution
        channels = tuple(Channel(name, unit) for name, unit in CHANNELS)
        scalars = (("y", ""), ("m0", "GeV"), ("pt", "GeV"))
        return Schema(
            image=ImageField("X_jets", channels, height=edge, width=edge),
            scalars=tuple(ScalarField(name, "float32", unit) for name, unit in scalars),
        )

    def chunk(
        self, begin: int, end: int
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """Jets number [begin, end).

        Parameters
        ----------
        begin, end : int
            Half-open range of jet numbers, 0 <= begin <= end <= 2^64.

        Returns
        -------
        images : ndarray
            float32 [end - begin, 8, H, W]; GeV, cm or hits, see `schema`.
        scalars : dict of ndarray
            float32 [end - begin] each: `y`, `m0` (GeV), `pt` (GeV).

        Raises
        ------
        ConfigError
            If the range is not one.
        """
        if not 0 <= begin <= end <= 2**64:
            raise ConfigError(
                f"bad range of jets: found [{begin}, {end}), expected 0 <= begin <= end <= 2^64"
            )
        edge = CRYSTALS * self.resolution
        images = np.zeros((end - begin, len(CHANNELS), edge, edge), np.float32)
        scalars = np.empty((3, end - begin), np.float32)
        for k in range(end - begin):
            key = np.array([self.seed, begin + k], np.uint64)
            scalars[:, k] = _draw_jet(
                np.random.Generator(np.random.Philox(key=key)), images[k], self.resolution
            )
        return images, {"y": scalars[0], "m0": scalars[1], "pt": scalars[2]}


def toy_jets(
    n: int, *, resolution: int = 1, seed: int = 0, chunk_size: int = 64
) -> Iterator[tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]]:
    """Jets number [0, n) in chunks.

    Parameters
    ----------
    n : int
        Number of jets.
    resolution, seed
        As for `ToyJets`.
    chunk_size : int
        Jets per chunk; the last one may be smaller.

    Yields
    ------
    images, scalars
        As `ToyJets.chunk` returns them.

    Raises
    ------
    ConfigError
        If an argument is out of range.

    Examples
    --------
    >>> [len(images) for images, _ in toy_jets(5, chunk_size=2)]
    [2, 2, 1]
    """
    if n < 0 or chunk_size < 1:
        raise ConfigError(
            f"bad sizes: found n={n}, chunk_size={chunk_size}, expected n >= 0 and chunk_size >= 1"
        )
    jets = ToyJets(resolution=resolution, seed=seed)
    return (jets.chunk(begin, min(begin + chunk_size, n)) for begin in range(0, n, chunk_size))


def _draw_jet(
    rng: np.random.Generator, image: NDArray[np.float32], resolution: int
) -> tuple[float, float, float]:
    """Fill one zeroed image [8, H, W] and return (y, m0, pt); resolutions share all draws."""
    y = float(rng.random() < 0.5)
    low, high = PT_RANGE_GEV
    u = rng.random() * -np.expm1(-(high - low) / PT_SCALE_GEV)
    pt = float(low - PT_SCALE_GEV * np.log1p(-u))
    m0 = _draw_mass(rng, is_top=y == 1)
    shower = _draw_shower(rng, _draw_prongs(rng, m0 / pt, is_top=y == 1), pt)
    fill_image(rng, image, shower.joined(_draw_pileup(rng)), resolution)
    return y, m0, pt


def _draw_mass(rng: np.random.Generator, *, is_top: bool) -> float:
    if not is_top:
        median, width = QCD_MASS_GEV
        return float(np.clip(median * np.exp(width * rng.standard_normal()), 10, 250))
    if rng.random() < TOP_CONTAINED:
        return float(rng.normal(*TOP_MASS_GEV))
    return float(rng.uniform(60, 165))  # a decay product lies outside the jet


def _draw_prongs(rng: np.random.Generator, mass_by_pt: float, *, is_top: bool) -> Floats:
    """Prongs [n, 3]: eta, phi in crystals and share of the jet's pT; two for QCD, three for top.

    The hardest lies in the central tower, as images are cropped round the hottest one. The others
    lie where the jet's mass puts them: (m / pT)^2 is the sum over pairs of z_i z_j dR_ij^2 for
    collimated massless prongs.
    """
    if is_top:
        share = np.sort(rng.dirichlet((5.0, 4.0, 3.0)))[::-1]
    else:
        soft = rng.uniform(0.02, 0.3)
        share = np.array([1 - soft, soft])
    angle = rng.uniform(0, 2 * np.pi) + np.array([0.0, 0.0, rng.uniform(1.0, 3.0)])[: len(share)]
    reach = np.array([0.0, 1.0, rng.uniform(0.7, 1.3)])[: len(share)]
    where = np.stack([reach * np.sin(angle), reach * np.cos(angle)], axis=1)
    apart = ((where[:, None] - where) ** 2).sum(-1)
    width = np.sqrt((share[:, None] * share * apart).sum() / 2)
    where *= min(mass_by_pt / width, 0.8) / CRYSTAL_RAD  # 0.8: the radius of the jets
    where += CRYSTALS / 2 + rng.uniform(-TOWER_CRYSTALS / 2, TOWER_CRYSTALS / 2, 2)
    return np.column_stack([where, share])


def _draw_shower(rng: np.random.Generator, prongs: Floats, pt: float) -> Particles:
    """Break the prongs up; transverse momentum is the same for all, so soft ones stray further."""
    prong, kind, momentum = [], [], []
    for number, (fraction, constant, slope) in enumerate(FRAGMENTS):
        for k, share in enumerate(prongs[:, 2]):
            n = 1 + int(rng.poisson(constant + slope * share * pt))
            weight = rng.standard_gamma(SHARE_SHAPE, n) + 1e-3
            momentum.append(weight * (fraction * share * pt / weight.sum()))
            prong += [k] * n
            kind += [number] * n
    p = np.concatenate(momentum)
    kinds = np.array(kind)
    spread = (
        rng.standard_normal((len(p), 2))
        * (TRANSVERSE_GEV / CRYSTAL_RAD / np.maximum(p, 0.1))[:, None]
    )
    eta, phi = (prongs[prong, :2] + spread).T
    return Particles(eta, phi, p, kinds, _draw_charge(rng, kinds), np.zeros(len(p), np.bool_))


def _draw_pileup(rng: np.random.Generator) -> Particles:
    """Spread soft particles evenly over the image and a little beyond."""
    busy = rng.gamma(PILEUP_SHAPE, 1 / PILEUP_SHAPE)
    counts = rng.poisson(np.array(PILEUP_PARTICLES) * busy)
    n = int(counts.sum())
    kind = np.repeat(np.arange(3), counts)
    eta, phi = rng.uniform(-MARGIN, CRYSTALS + MARGIN, (2, n))
    hard = rng.random(n) < PILEUP_HARD
    charged = np.where(
        hard, TRACK_MIN_GEV + rng.gamma(2, 0.5, n), rng.uniform(0.15, TRACK_MIN_GEV, n)
    )
    soft = rng.exponential(1, n)
    p = np.choose(kind, [charged, 0.2 + 1.1 * soft, 1.2 + 2.2 * soft])
    return Particles(eta, phi, p, kind, _draw_charge(rng, kind), np.ones(n, np.bool_))


def _draw_charge(rng: np.random.Generator, kind: NDArray[np.int64]) -> Floats:
    return np.where(kind == CHARGED, rng.integers(0, 2, len(kind)) * 2.0 - 1, 0.0)
