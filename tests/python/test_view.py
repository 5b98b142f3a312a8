from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio.cli.main import main
from e2eio.cli.view import even_samples
from e2eio.dataset import Dataset
from e2eio.errors import ConfigError, MissingDependencyError
from e2eio.plots import FigureData, figure_names, gather, render, sample_figures, whole_figures
from e2eio.plots.panels import Bars, ImagePanel, Lines, colour_limits, image_panel
from e2eio.presets import PRESETS
from e2eio.progress import make_progress
from e2eio.schema import Channel, ImageField, ScalarField, Schema
from e2eio.summary import LOG, make_classes, stream

pytest.importorskip("mplhep", reason="pictures need matplotlib and mplhep")


def some_images(n: int, n_channels: int, height: int, width: int) -> NDArray[np.float32]:
    random = np.random.default_rng(4)
    images = random.normal(size=(n, n_channels, height, width)).astype(np.float32)
    images[random.random(images.shape) < 0.8] = 0
    images[:, 0] = np.abs(images[:, 0])
    return images


def write(
    path: Path,
    images: NDArray[np.float32],
    channels: Sequence[Channel],
    **scalars: NDArray[np.generic],
) -> Dataset:
    fields = tuple(
        ScalarField(name, str(column.dtype), "GeV" if name == "pt" else "")
        for name, column in scalars.items()
    )
    schema = Schema(ImageField("X", tuple(channels), *images.shape[2:]), fields)
    with e2eio.write(path, schema, shard_samples=9) as writer:
        writer.append(images, scalars)
    return Dataset(path)


def whole(dataset: Dataset, by: str | None = None, limit: int | None = None) -> list[FigureData]:
    classes = make_classes(dataset, by)
    with make_progress(False) as progress:
        content, maps = gather(dataset, classes, limit=limit, progress=progress)
    return whole_figures(dataset, classes, content, maps, range(len(dataset.channels)))


CHANNELS = (Channel("ecal", "GeV"), Channel("d0", "cm"))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    y = (np.arange(30) % 3 == 0).astype(np.int32)
    pt = np.linspace(100, 400, 30).astype(np.float32)
    return write(tmp_path / "data", some_images(30, 2, 12, 10), CHANNELS, y=y, pt=pt)


def test_a_sample_is_shown_as_it_is(dataset: Dataset) -> None:
    (figure,) = sample_figures(dataset, [7], [1, 0])
    assert figure.title == "sample 7, y = 0, pt = 172.41 GeV"
    d0, ecal = figure.panels
    assert isinstance(d0, ImagePanel)
    assert isinstance(ecal, ImagePanel)
    image = dataset[7]["X"]
    np.testing.assert_array_equal(d0.image, image[1])
    np.testing.assert_array_equal(ecal.image, image[0])
    assert (d0.title, d0.unit, d0.scale) == ("d0", "cm", "signed")
    assert (ecal.title, ecal.unit, ecal.scale) == ("ecal", "GeV", "log")
    assert d0.high == -d0.low == np.abs(image[1]).max()
    assert ecal.high == image[0].max()


def test_axes_are_angles_where_pixels_are_crystals(tmp_path: Path) -> None:
    for edge, half in ((125, 1.0875), (375, 1.0875)):
        jets = write(tmp_path / str(edge), np.zeros((1, 1, edge, edge), np.float32), CHANNELS[:1])
        (figure,) = sample_figures(jets, [0], [0])
        assert figure.axes is not None
        assert (figure.axes.x, figure.axes.y) == ("relative phi [rad]", "relative eta")
        assert figure.axes.extent == pytest.approx((-half, half, -half, half))
    crop = write(tmp_path / "crop", np.zeros((1, 1, 32, 32), np.float32), CHANNELS[:1])
    (figure,) = sample_figures(crop, [0], [0])
    assert figure.axes is not None
    assert "ieta" in figure.axes.y


def test_means_are_those_of_the_classes(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_SAMPLES", 4)  # many chunks
    figures = {figure.name: figure for figure in whole(dataset)}
    images = np.stack([dataset[i]["X"] for i in range(30)]).astype(np.float64)
    y = dataset.scalars("y")
    for label in (0, 1):
        figure = figures[f"mean-{label}"]
        assert figure.title == f"mean of {(y == label).sum()} samples, y = {label}"
        for panel, expected in zip(figure.panels, images[y == label].mean(axis=0), strict=True):
            assert isinstance(panel, ImagePanel)
            np.testing.assert_allclose(panel.image, expected, rtol=1e-12)
    limits = [(panel.low, panel.high) for panel in figures["mean-0"].panels]  # type: ignore[union-attr]
    assert limits == [(panel.low, panel.high) for panel in figures["mean-1"].panels]  # type: ignore[union-attr]


def test_spectra_count_every_pixel_once(dataset: Dataset) -> None:
    figures = {figure.name: figure for figure in whole(dataset)}
    images = np.stack([dataset[i]["X"] for i in range(30)])
    y = dataset.scalars("y")
    for channel, panel in enumerate(figures["spectrum-pixels"].panels):
        assert isinstance(panel, Lines)
        for label in (0, 1):
            values = np.abs(images[y == label][:, channel])
            expected, _ = np.histogram(values[values > 0], panel.edges)
            found = panel.counts[f"y = {label}"] * (y == label).sum()
            assert found.sum() == pytest.approx((values > 0).sum())
            np.testing.assert_allclose(found, expected, atol=1.01)  # float32 beside an edge
    assert [panel.x for panel in figures["spectrum-pixels"].panels] == [  # type: ignore[union-attr]
        "ecal per pixel [GeV]",
        "|d0| per pixel [cm]",
    ]
    sums = figures["spectrum-sums"].panels[0]
    assert isinstance(sums, Lines)
    assert sum(counts.sum() for counts in sums.counts.values()) == pytest.approx(2)
    low, high = images[:, 0].sum(axis=(1, 2)).min(), images[:, 0].sum(axis=(1, 2)).max()
    assert sums.edges[0] <= low * 1.0001
    assert high <= sums.edges[-1] * 1.0001


def test_occupancy_is_the_share_of_filled_pixels(dataset: Dataset) -> None:
    figure = next(figure for figure in whole(dataset) if figure.name == "occupancy")
    images = np.stack([dataset[i]["X"] for i in range(30)])
    y = dataset.scalars("y")
    bars = figure.panels[0]
    assert isinstance(bars, Bars)
    for label in (0, 1):
        expected = 100 * (images[y == label] != 0).mean(axis=(0, 2, 3))
        np.testing.assert_allclose(bars.values[f"y = {label}"], expected)
    shares = 100 * (images[:, 1] != 0).mean(axis=(1, 2))
    lines = figure.panels[2]
    assert isinstance(lines, Lines)
    for label in (0, 1):
        expected, _ = np.histogram(shares[y == label], lines.edges)
        np.testing.assert_allclose(lines.counts[f"y = {label}"] * (y == label).sum(), expected)


def test_classes_are_values_or_ranges_or_one(dataset: Dataset, tmp_path: Path) -> None:
    assert make_classes(dataset).names == ("y = 0", "y = 1")
    ranges = make_classes(dataset, "pt")
    assert len(ranges.names) == 4
    assert ranges.names[-1].endswith("<= 400 GeV")
    found = ranges.of(dataset.scalars("pt"), 30)
    assert np.bincount(found).tolist() == [8, 7, 7, 8]
    odd = np.array([np.nan, np.inf, 99, 400, 1000], np.float32)
    assert ranges.of(odd, 5).tolist() == [-1, -1, -1, 3, 3]
    assert make_classes(dataset, "none").names == ("all samples",)
    with pytest.raises(ConfigError, match="unknown label: found 'z'"):
        make_classes(dataset, "z")
    bare = write(tmp_path / "bare", some_images(3, 2, 4, 4), CHANNELS)
    assert make_classes(bare).names == ("all samples",)
    with pytest.raises(ConfigError, match="no scalar fields at all"):
        make_classes(bare, "y")


def test_samples_without_a_label_belong_to_no_class(tmp_path: Path) -> None:
    images = np.ones((4, 1, 3, 3), np.float32)
    images[1] = 5
    y = np.array([0, np.nan, 1, 1], np.float32)
    data = write(tmp_path / "data", images, CHANNELS[:1], y=y)
    means = [figure for figure in whole(data) if figure.name.startswith("mean")]
    assert [figure.title for figure in means] == [
        "mean of 1 samples, y = 0",
        "mean of 2 samples, y = 1",
    ]
    assert all((panel.image == 1).all() for figure in means for panel in figure.panels)  # type: ignore[union-attr]


def test_nan_and_negative_pixels_are_told_not_drawn() -> None:
    image = np.array([[1, np.nan], [-2, 0]], np.float32)
    panel = image_panel(CHANNELS[0], image, "log")
    assert panel.note == "1 pixels not finite; 1 pixels negative"
    assert (panel.low, panel.high) == (0.1, 1)
    assert image_panel(CHANNELS[0], np.zeros((2, 2)), "log").note == "no filled pixel"
    low, high, middle = colour_limits(np.array([0.01, -0.02, 5.0]), "signed")
    assert (low, high) == (-5, 5)
    assert middle == pytest.approx(0.01)


def test_bins_hold_every_finite_value() -> None:
    values = np.array([0, 1e-30, -1e-30, 1e30, -1e30, 1, -1, 3.4e38], np.float32)
    index = LOG.index(values)
    assert ((index >= 0) & (index < LOG.size)).all()
    assert index[0] == index[1] == 0
    assert index[3] == index[7] == LOG.n + 1
    one = int(np.flatnonzero(np.isclose(LOG.edges, 1))[0]) + 1
    assert (index[5], index[6]) == (one, one + LOG.n + 2)


@pytest.mark.parametrize(
    ("n_channels", "edge"), [(1, 32), (13, 25), (5, 40)], ids=["crystals", "13 channels", "odd"]
)
def test_any_shape_is_drawn(n_channels: int, edge: int, tmp_path: Path) -> None:
    preset = PRESETS["tau"].channels if n_channels == 13 else ()
    channels = preset or tuple(Channel(f"c{i}") for i in range(n_channels))
    images = some_images(3, n_channels, edge, edge)
    images[0] = 0
    images[1, 0, 3, 3] = np.nan
    data = write(tmp_path / "data", images, channels)
    for figure in [*sample_figures(data, [1], range(n_channels)), *whole(data)[:2]]:
        assert render(figure, "png").startswith(b"\x89PNG")


def test_x3_is_drawn(truth_x3: dict[str, NDArray[np.float32]], tmp_path: Path) -> None:
    channels = PRESETS["boosted-top"].channels[3:5]
    data = write(tmp_path / "data", truth_x3["X"][:2, 3:5], channels, y=truth_x3["y"][:2])
    for figure in [*sample_figures(data, [0], [0, 1]), *whole(data)[:1]]:
        assert render(figure, "png").startswith(b"\x89PNG")


def test_names_from_files_cannot_break_a_picture(tmp_path: Path) -> None:
    names = ("$\\frac{", "a\nb\x1b[31m", "\u4e2d\u6587", "x" * 500)
    channels = tuple(Channel(name, "$_{") for name in names)
    data = write(tmp_path / "data", some_images(2, 4, 8, 8), channels)
    for figure in [*sample_figures(data, [0], range(4)), *whole(data)[1:3]]:
        assert render(figure, "png", label="$x_{").startswith(b"\x89PNG")


def test_all_empty_datasets_are_drawn(tmp_path: Path) -> None:
    data = write(tmp_path / "data", np.zeros((3, 2, 8, 8), np.float32), CHANNELS)
    for figure in [*sample_figures(data, [0], [0, 1]), *whole(data)]:
        assert render(figure, "png").startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_equal_data_make_equal_files(dataset: Dataset, suffix: str) -> None:
    figure = next(sample_figures(dataset, [3], [0, 1]))
    first = render(figure, suffix)
    assert render(figure, suffix) == first
    for trace in (b"matplotlib v", b"Matplotlib v", b"CreationDate", b"dc:date"):
        assert trace not in first


def view(*arguments: object) -> int:
    return main(["view", "--quiet", *map(str, arguments)])


def test_the_command_writes_what_it_says(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    few = ("--channels", "ecal", "--out", out)
    assert view(data, *few, "--samples", "1,3-4", "--json") == 0
    files = [Path(name) for name in json.loads(capsys.readouterr().out)["files"]]
    names = figure_names(
        ("samples", "means", "occupancy", "spectra"), [1, 3, 4], make_classes(dataset)
    )
    assert [path.stem for path in files] == names
    assert sorted(out.iterdir()) == sorted(files)
    before = {path: path.read_bytes() for path in files}
    assert view(data, *few, "--samples", "1") == 1
    assert "file exists" in capsys.readouterr().err
    assert view(data, *few, "--samples", "1,3,4", "--overwrite") == 0
    assert {path: path.read_bytes() for path in files} == before
    backends = sys.modules.get("matplotlib.pyplot")
    assert backends is None or backends.get_fignums() == []


def test_one_file_is_a_picture_or_pages(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    assert len(dataset) == 30
    assert view(data, "--what", "occupancy", "--out", tmp_path / "o.svg") == 0
    assert (tmp_path / "o.svg").read_bytes().startswith(b"<?xml")
    assert view(data, "--what", "samples", "--n", 3, "--out", tmp_path / "all.pdf") == 0
    pages = (tmp_path / "all.pdf").read_bytes()
    assert pages.count(b"/Type /Page\n") + pages.count(b"/Type /Page ") == 3
    capsys.readouterr()
    assert view(data, "--out", tmp_path / "x.png") == 2
    assert "one picture, found" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--samples", "30"], "no such sample: found 30"),
        (["--samples", "5-2"], "A <= B"),
        (["--samples", "0-99999999999"], "at most 1000"),
        (["--samples", "1", "--n", "2"], "not allowed"),
        (["--n", "-1"], "--n"),
        (["--limit", "0"], "--limit"),
        (["--what", "nothing"], "'nothing'"),
        (["--by", "z"], "unknown label"),
        (["--channels", "hcal"], "unknown channel"),
        (["--format", "gif"], "gif"),
        (["--format", "png", "--out", "a.pdf"], "leave one out"),
    ],
)
def test_wrong_usage(
    arguments: list[str],
    found: str,
    dataset: Dataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len(dataset) == 30
    assert view(tmp_path / "data", *arguments) == 2
    text = capsys.readouterr().err
    assert found in text
    assert text.count("\n") == 1


def test_hundreds_of_channels_are_not_drawn_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    channels = [Channel(f"c{number}") for number in range(65)]
    write(tmp_path / "data", np.ones((2, 65, 2, 2), np.float32), channels)
    few = ("--what", "samples", "--n", 1, "--out", tmp_path / "a.png")
    assert view(tmp_path / "data", *few) == 2
    assert "choose some with --channels" in capsys.readouterr().err
    assert view(tmp_path / "data", *few, "--channels", "c64,3") == 0


def test_channels_by_name_and_number(dataset: Dataset, tmp_path: Path) -> None:
    assert dataset.channels == ("ecal", "d0")
    one, other = tmp_path / "a.png", tmp_path / "b.png"
    for target, channels in ((one, "d0"), (other, "1")):
        assert (
            view(
                tmp_path / "data",
                "--what",
                "samples",
                "--n",
                1,
                "--channels",
                channels,
                "--out",
                target,
            )
            == 0
        )
    assert one.read_bytes() == other.read_bytes()


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", "--help"]) == 0
    assert "examples:\n  e2eio view data/top" in capsys.readouterr().out


def test_even_samples_are_within_the_dataset() -> None:
    assert even_samples(30, 3) == [0, 10, 20]
    assert even_samples(0, 3) == []


def test_without_mplhep_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch,
    dataset: Dataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len(dataset) == 30
    monkeypatch.setitem(sys.modules, "mplhep", None)
    monkeypatch.delitem(sys.modules, "e2eio.plots.binding", raising=False)
    monkeypatch.delitem(sys.modules, "e2eio.plots.drawing", raising=False)
    assert view(tmp_path / "data", "--out", tmp_path / "out") == 1
    assert "e2eio[plot]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert issubclass(MissingDependencyError, ImportError)
