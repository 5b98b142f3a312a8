from __future__ import annotations

import dataclasses
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import e2eio
import gpu_feed
from gpu.feeds import Feed, FeedError, check_feed, e2eio_feeds
from gpu.network import ResNet15
from gpu.peers import PEERS, RawJets, check_peer
from gpu.report import Row
from harness.data import ToySource, derive, derive_shards

HOST = torch.device("cpu")
N = 48


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> RawJets:
    folder = tmp_path_factory.mktemp("raw")
    derived = derive(ToySource(1), N, folder, {"npy"})
    files = derived.files
    return RawJets(files["npy"], files["y"], folder, N, derived.shape, 16, 1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> e2eio.Dataset:
    folder = tmp_path_factory.mktemp("jets")
    return e2eio.Dataset(derive_shards(ToySource(1), N, folder).files["e2eio"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card: run the benchmark")
def test_without_a_card_it_measures_the_cpu_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--quick", "--resolution", "1", "--rounds", "1", "--out", str(tmp_path)]
    assert gpu_feed.main(arguments) == 0
    report = json.loads((tmp_path / "gpu_feed.json").read_text())
    assert report["format"] == "e2eio-gpu-feed"
    assert report["device"] == {"name": "none"}
    rows = {row["feed"]: row for row in report["rows"]}
    assert rows["wire"]["n_verified"] == rows["dense_pinned"]["n_verified"] == 256
    assert rows["wire"]["bytes_per_jet"] < 0.03 * rows["dense_pinned"]["bytes_per_jet"]
    assert rows["dense_pinned"]["bytes_per_jet"] == 4 * 8 * 125 * 125
    assert not any(row["jets_per_s_rounds"] for row in rows.values())
    figures = {figure["name"]: figure for figure in report["figures"]}
    assert figures["x1 ready for the bus, per core"]["value"] > 0
    for name in ("x1 pixels / dense and pinned", "x1 filling fresh images / memset"):
        assert figures[name]["value"] is figures[name]["reached"] is None
    assert "No GPU" in capsys.readouterr().out


def test_only_the_kernel_is_timed_as_a_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's operations copy from pageable memory, which no graph of CUDA can hold."""
    graphs: list[bool] = []

    def noting(action: Any, *, as_graph: bool = True) -> float:
        action()
        graphs.append(as_graph)
        return 1.0

    monkeypatch.setattr("gpu.timing.kernel_ms", noting)
    jets = e2eio.Dataset(derive_shards(ToySource(1), 64, tmp_path).files["e2eio"])
    figures = gpu_feed._measure_filling(jets, "x1", "filling", HOST)
    assert graphs == [True, False, False]
    assert all("torch operations" in figure.note for figure in figures[1:])


def test_feeds_of_others_are_compared_and_timed(tmp_path: Path) -> None:
    """On the CPU, with the host's memory in the place of a card's."""
    options, _ = gpu_feed.parse(["--quick", "--threads", "1"])
    options = dataclasses.replace(options, jets={1: 128}, raw_jets={1: 64})
    jets = e2eio.Dataset(derive_shards(ToySource(1), 128, tmp_path).files["e2eio"])
    rows: dict[str, Row] = {}
    feeds = gpu_feed._peers(options, jets, 1, tmp_path, HOST, rows)
    assert list(rows) == ["e2eio_dali", *PEERS]
    assert rows["dali_numpy_gpu"].unavailable == "RuntimeError: needs a GPU"
    if find_spec("ffcv") is None:
        assert rows["ffcv"].unavailable == "ModuleNotFoundError: No module named 'ffcv'"
    wanted = {"torch_pinned"}
    if find_spec("nvidia") and find_spec("nvidia.dali"):
        wanted |= {"e2eio_dali", "dali_numpy_cpu"}
    assert wanted <= {feed.name for feed in feeds}
    for feed in feeds:
        assert rows[feed.name].n_verified == (128 if feed.name == "e2eio_dali" else 64)
    rates = gpu_feed._rate_in_rounds(feeds, 2, 0.05, HOST)
    assert all(len(found) == 2 and min(found) > 0 for found in rates.values())


def test_it_stops_at_a_peer_that_delivers_something_else(raw: RawJets) -> None:
    images = torch.from_numpy(np.load(raw.images))
    images[7, 1, 2, 3] += 1

    def feed(x: Any) -> Feed:
        return Feed("peer", "Peer", 0, lambda: ((each, None) for each in x.split(16)))

    with pytest.raises(FeedError, match="1 of 48"):
        check_peer(feed(images), raw)
    with pytest.raises(FeedError, match="32 jets"):
        check_peer(feed(images[8:40]), raw)


def test_it_stops_at_a_feed_that_delivers_something_else(dataset: e2eio.Dataset) -> None:
    right = e2eio_feeds(dataset, 16, 1, HOST)[0]
    assert check_feed(right, dataset, 16) == N

    def negated() -> Any:
        return ((-x, y) for x, y in right.epoch())

    with pytest.raises(FeedError, match="batch 0 is not that of the Loader"):
        check_feed(Feed("wrong", "wrong", 0, negated), dataset, 16)
    right.close()


@pytest.mark.parametrize("granularity", [1, 3])
def test_the_network_is_as_large_as_theirs(granularity: int) -> None:
    network = ResNet15(8, granularity)
    g = granularity
    # 94 k parameters at x1; at x3 only the first convolution grows, to 56,464.
    n_parameters = sum(each.numel() for each in network.parameters())
    assert n_parameters == 94_226 - 6_288 + (8 * 16 * (7 * g) ** 2 + 16)
    assert network(torch.zeros(2, 8, 125 * g, 125 * g)).shape == (2, 2)


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu_feed.main(["--help"])
    assert "examples:" in capsys.readouterr().out
