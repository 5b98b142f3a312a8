"""The normalisations found in the field's published training code, by name.

Each is what the code does to pixels, in its order; cuts on whole jets, 8-bit rounding and resizing are not part of it.
Some erase what physics would keep (negative d0 and dz): they are here to reproduce results.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from e2eio.errors import ConfigError
from e2eio.transforms.normalise import DivideBySample, ZScore
from e2eio.transforms.target import Transform
from e2eio.transforms.values import (
    Clip,
    Divide,
    Log1p,
    Scale,
    ZeroSuppress,
)

__all__ = ["PRESETS", "preset"]


def _mass(ecal: float) -> tuple[Transform, ...]:
    scales = {"track_pt": 0.01, "dz": 0.05, "d0": 0.1, "ecal": ecal, "hcal": 1.0}
    return (
        Scale(scales),
        ZeroSuppress({"dz": 1.0, "d0": 1.0}, "abs_above_to_zero"),
        ZeroSuppress({"track_pt": 1e-2, "ecal": 1e-2, "hcal": 1e-2}),
    )


_CHANNELS: Final = ("track_pt", "dz", "d0", "ecal", "hcal")


def _five(*values: float) -> dict[str, float]:
    return dict(zip(_CHANNELS, values, strict=True))


PRESETS: Final[Mapping[str, tuple[Transform, ...]]] = MappingProxyType(
    {
        "raw": (),
        "quark-gluon": (ZeroSuppress(1e-3), Scale({"hcal": 25.0}), Divide(100.0)),
        "top-mass": _mass(0.1),
        "tau-mass": _mass(0.02),
        "tau-min-max": (
            ZeroSuppress(_five(1e-3, 1e-4, 1e-4, 1e-3, 1e-3), "abs_below"),
            ZeroSuppress(_five(1000.0, 20.0, 10.0, 500.0, 100.0), "abs_above_to_zero"),
            Scale(_five(0.02, 1.0, 2.0, 0.2, 1.0)),
        ),
        "tau-z-score": (ZeroSuppress(1e-3, "abs_below"), ZScore(statistics="nonzero")),
        "mass-capped": (
            ZeroSuppress(1e-3),
            ZeroSuppress({"track_pt": 50.0}, "above_to_value", 1.0),
            ZeroSuppress({"d0": 5.0, "dz": 5.0}, "above_to_value", 1.0),
        ),
        "vision-transformer": (
            ZeroSuppress(1e-3),
            ZScore(statistics="all"),
            Clip(0.0, 500.0),
            DivideBySample("max", 255.0),
        ),
        "log-z-score": (
            Clip(low=0.0),
            Log1p(),
            ZeroSuppress(1e-3),
            DivideBySample("sum"),
            ZScore(statistics="all"),
        ),
    }
)


def preset(name: str) -> tuple[Transform, ...]:
    """Return the transforms of a published normalisation.

    Parameters
    ----------
    name : str
        ``"raw"``
            None: the boosted-top trainers of D. Di Croce on TFRecord.
        ``"quark-gluon"``
            x < 1e-3 -> 0, HCAL x 25 (undoes the /25 of the towers at x1), /100: jet_trainer_ECAL+HCAL+Trks.py
            (rchudasa), multigpu_gqjet_trainer.py (davidedicroce).
        ``"top-mass"``, ``"tau-mass"``
            pT x .01, dz x .05, d0 x .1, ECAL x .1 (tau: .02), HCAL x 1; then abs(dz), abs(d0) > 1 -> 0, and pT,
            ECAL, HCAL < 1e-2 -> 0: CNN/dataset.py (Jai Bardhan), mass_trainer*.py (rchudasa).
        ``"tau-min-max"``
            abs(x) below a threshold per channel -> 0, above another -> 0, then a scale per channel:
            dataset_loder.py (bhbam).
        ``"tau-z-score"``
            abs(x) < 1e-3 -> 0, then the z-score with mean and standard deviation over non-zero pixels:
            h5_to_normalized* (bhbam), which also drops jets; do that by their scalars or sample ids.
        ``"mass-capped"``
            x < 1e-3 -> 0, track pT > 50 -> 1, d0 and dz > 5 -> 1: data_utils.py (Anis Ismail), after a
            scale per channel of your own, which is to be put first.
        ``"vision-transformer"``
            x < 1e-3 -> 0, z-score per channel, clip to 0 .. 500, each channel's largest pixel to 255: the ViT and
            MAE projects (Diptarko Choudhury, Ka Wa Ho, Shashank Shukla). They take mean and standard deviation from
            4,096 or 320 samples; here it is the dataset's, over all pixels.
        ``"log-z-score"``
            log1p of max(x, 0), < 1e-3 -> 0, divided by the sum of the channel, z-score: GSoC 2026. The z-score is
            the stored dataset's; give ZScore the numbers of the transformed one to reproduce it.

    Returns
    -------
    tuple of Transform
        To be unpacked among others: ``transforms=(*preset("top-mass"), FlipEta())``.

    Raises
    ------
    ConfigError
        There is no such preset.

    Examples
    --------
    >>> preset("quark-gluon")[1:]
    (Scale(factor={'hcal': 25.0}), Divide(divisor=100.0))
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset: found {name!r}; expected one of {', '.join(PRESETS)}")
    return PRESETS[name]
