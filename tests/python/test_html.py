from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import e2eio
from e2eio import manifest
from e2eio.cli.main import main
from e2eio.physics import Finding
from e2eio.plots.page import Page, make_page
from e2eio.schema import Channel, ImageField, ScalarField, Schema

pytest.importorskip("mplhep", reason="pictures need matplotlib and mplhep")

HOSTILE = "<script>alert('\"&</script>"


class Reader(HTMLParser):
    """Collects tags, attributes and text; complains of tags that do not match."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def write(path: Path, *names: str, shards: int = 1) -> Path:
    random = np.random.default_rng(0)
    images = random.exponential(size=(2 * shards, len(names), 8, 8)).astype(np.float32)
    channels = tuple(Channel(name, HOSTILE[:20]) for name in names)
    schema = Schema(ImageField(HOSTILE, channels, 8, 8), (ScalarField(f"{HOSTILE}y", "int64"),))
    with e2eio.write(path, schema, shard_samples=2) as writer:
        writer.append(images, {f"{HOSTILE}y": np.arange(2 * shards)})
    return path


def page_of(data: Path, target: Path) -> Reader:
    assert main(["inspect", "--quiet", "--html", str(target), str(data)]) == 0
    return Reader(target.read_text(encoding="utf-8"))


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    page = page_of(write(tmp_path / "data", "ecal", "hcal"), tmp_path / "page.html")
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form", "a"}
    assert {"table", "img", "h2"} <= names
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") or name == "href" for name in attributes)
        if "src" in attributes:
            assert tag == "img"
            assert attributes["src"].startswith("data:image/png;base64,iVBOR")
    policies = [a for t, a in page.tags if t == "meta" and "http-equiv" in a]
    assert policies[0]["content"].startswith("default-src 'none'")
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 6


def test_texts_from_files_are_escaped(tmp_path: Path) -> None:
    data = write(tmp_path / f"d{HOSTILE.replace('/', '')}", HOSTILE, f"{HOSTILE}2")
    listed = manifest.read(data)
    sources = (manifest.SourceEntry(f"/a/{HOSTILE}.root", 10, 4),)
    provenance = manifest.Provenance(
        sources, f"e2eio {HOSTILE}", {HOSTILE: [HOSTILE]}, f"2026 {HOSTILE}"
    )
    manifest.write(
        data,
        manifest.Manifest(listed.schema, listed.shards, listed.statistics, provenance),
    )
    page = page_of(data, tmp_path / "page.html")
    assert "script" not in {tag for tag, _ in page.tags}
    assert f"/a/{HOSTILE}.root" in page.words
    assert f"{HOSTILE}2" in page.words
    assert f"e2eio {HOSTILE}" in page.words
    assert f"2026 {HOSTILE}" in page.words


def test_findings_and_their_words_are_escaped() -> None:
    content = {
        **{"path": HOSTILE, "n_samples": 1, "n_shards": 1, "n_bytes": 1, "digest": "d"},
        **{"bytes_per_sample": 1.0, "dense_bytes_per_sample": 4, "scalars": [], "channels": []},
        "schema": {"image": {"name": HOSTILE, "shape": [1, 1, 1], "precision": "float32"}},
    }
    finding = Finding("x", "warning", HOSTILE, HOSTILE, 3, HOSTILE, (1, 2))
    page = Reader(make_page(Page(content, [(HOSTILE, 1, 1, HOSTILE)], 1, [finding])))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.words.count(HOSTILE) >= 6


def test_the_page_tells_what_there_is(tmp_path: Path) -> None:
    data = write(tmp_path / "data", "ecal", shards=15)
    page = page_of(data, tmp_path / "page.html")
    listed = manifest.read(data)
    for shard in listed.shards:
        assert shard.file in page.words
        assert shard.digest in page.words
    assert "details" in {tag for tag, _ in page.tags}  # 15 rows are folded
    assert listed.digest in page.words
    assert "All 30 samples were looked at." in page.words
    assert listed.provenance.created in page.words
    assert "compression_level" in page.words


def test_a_single_shard_has_a_page(tmp_path: Path) -> None:
    shard = write(tmp_path / "data", "ecal") / "shard-00000.e2e"
    assert "without dataset.json" in page_of(shard, tmp_path / "page.html").words


def test_equal_datasets_make_equal_pages_and_none_is_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data", "ecal")
    target = tmp_path / "page.html"
    page_of(data, target)
    first = target.read_bytes()
    assert main(["inspect", "--quiet", "--html", str(target), str(data)]) == 1  # nothing is drawn
    assert "file exists" in capsys.readouterr().err
    assert main(["inspect", "--quiet", "--overwrite", "--html", str(target), str(data)]) == 0
    assert target.read_bytes() == first
    assert [path.name for path in tmp_path.iterdir() if "tmp" in path.name] == []
    assert main(["inspect", "--quiet", "--html", str(tmp_path / "data"), str(data)]) == 1
