"""The one door to matplotlib and mplhep: style, colours, empty figures and bytes of files."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from e2eio.errors import MissingDependencyError

try:
    import matplotlib as mpl
    import mplhep
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize, SymLogNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
except ImportError as error:
    raise MissingDependencyError(
        f"pictures need matplotlib and mplhep: found no {error.name}; install them: pip install 'e2eio[plot]'"
    ) from None

__all__ = [
    "CLASS_COLOURS",
    "colour_scale",
    "figure_bytes",
    "log_ticks",
    "new_figure",
    "pages_bytes",
    "plain_ticks",
    "styled",
]

#: Of classes: Petroff's six, made to be told apart by everybody (arXiv:2107.02270); mplhep's CMS style has them.
CLASS_COLOURS: Final = ("#5790fc", "#f89c20", "#e42536", "#964a8b", "#9c9ca1", "#7a21dd")

# Dark where |value| is small, so that every filled pixel stands out from the white of empty ones; blue and orange can be
# told apart by everybody.
_SIGNED: Final = LinearSegmentedColormap.from_list(
    "e2eio-signed", ["#3aa5ff", "#0b62b0", "#2b2b2b", "#c25400", "#ff9a1f"]
)
# Without the light end of viridis: small energies stand out from white as well.
_ENERGY: Final = LinearSegmentedColormap.from_list(
    "e2eio-energy", mpl.colormaps["viridis_r"](np.linspace(0.12, 1, 256))
)
_PIXELS_PER_INCH: Final = 160

_STYLE: Final[dict[str, Any]] = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 10.5,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "axes.linewidth": 1.0,
    "xtick.major.size": 5,
    "xtick.minor.size": 2.5,
    "ytick.major.size": 5,
    "ytick.minor.size": 2.5,
    "xtick.major.pad": 4,
    "ytick.major.pad": 4,
    "savefig.dpi": _PIXELS_PER_INCH,
    "xtick.minor.visible": False,
    "ytick.minor.visible": False,
    "svg.hashsalt": "e2eio",  # else the ids in the file are random
    "svg.fonttype": "path",
    "text.usetex": False,
}

# What files say about their making: nothing, so that equal pictures are equal files.
_METADATA: Final[dict[str, dict[str, None]]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw in mplhep's CMS style, smaller, and without warnings about glyphs that a font has not."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()  # not what the user's matplotlibrc says
        parameters: Any = mpl.rcParams
        parameters.update({**mplhep.style.CMS, **_STYLE})
        warnings.filterwarnings("ignore", message="Glyph")
        yield


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure of that size in inches, drawn by Agg: no window, whatever the backend is."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def colour_scale(scale: str, low: float, high: float, middle: float) -> tuple[Any, Any]:
    """Return colours and norm: "log", "linear" or "signed" (linear within +-middle)."""
    if scale == "signed":
        return _SIGNED, SymLogNorm(middle, vmin=low, vmax=high, base=10)
    return _ENERGY, LogNorm(low, high) if scale == "log" else Normalize(low, high)


def log_ticks(axis: Any, low: float, high: float, n: int = 5) -> None:
    """Put about `n` ticks on a logarithmic axis from `low` to `high`, written as plain numbers."""
    steps = (1.0,) if high > 30 * low else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=steps, numticks=n))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def plain_ticks(axis: Any, n: int = 5, *, whole: bool = False) -> None:
    """Put at most about `n` ticks on a linear axis, at whole numbers alone if asked."""
    axis.set_major_locator(MaxNLocator(n, integer=whole))


def figure_bytes(figure: Any, suffix: str) -> bytes:
    """Return the file of a figure: "png", "pdf" or "svg"."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix, metadata=_METADATA[suffix])
    return buffer.getvalue()


def pages_bytes(figures: Iterator[Any]) -> bytes:
    """Return a PDF with a page for each figure."""
    buffer = io.BytesIO()
    with PdfPages(buffer, metadata=_METADATA["pdf"]) as pages:
        for figure in figures:
            pages.savefig(figure)
    return buffer.getvalue()
