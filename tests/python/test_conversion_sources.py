"""What may be named as a source: files, directories, lists; and the plan of a conversion."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conversion_toys import SMALL, make_images, read_column, read_images, same_bits, write_small
from e2eio.cli.main import main
from e2eio.conversion import convert
from e2eio.errors import ConfigError, ImporterError, ShardNotFoundError

FLAGS = ["--shape", "2,6,6", "--channels", "ecal,time", "--no-isolate"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files of images, and what else lies in a directory."""
    path = tmp_path / "in"
    (path / "deeper").mkdir(parents=True)
    for k, name in enumerate(("c.parquet", "a.parquet.0", "b")):
        write_small(path / name, make_images(4 + k, k))
    (path / "README").write_text("images")
    (path / "_SUCCESS").touch()
    (path / ".hidden").touch()
    return path


def test_a_directory_stands_for_its_files_by_name(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = convert(folder, tmp_path / "d", **{**SMALL, "progress": True})
    text = capsys.readouterr().err
    assert "README: left out: of no known format" in text
    assert "deeper: left out: a directory within" in text
    assert "_SUCCESS" not in text
    files = [Path(source.path).name for source in content.provenance.sources]
    assert files == ["a.parquet.0", "b", "c.parquet"]
    assert same_bits(read_images(tmp_path / "d")[:5], make_images(5, 1))


def test_labels_go_with_what_was_named(folder: Path, tmp_path: Path) -> None:
    more = write_small(tmp_path / "z", make_images(2))
    convert([folder, more], tmp_path / "d", labels=[1, 0], scalars=[], **SMALL)
    assert read_column(tmp_path / "d", "y").tolist() == [1] * 15 + [0] * 2


def test_an_empty_file_in_a_directory_is_not_passed_over(folder: Path, tmp_path: Path) -> None:
    (folder / "d.parquet").touch()
    with pytest.raises(ImporterError, match=r"empty file: .*d\.parquet"):
        convert(folder, tmp_path / "d", **SMALL)


def test_directories_without_images(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("nothing")
    with pytest.raises(ConfigError, match="no file of a known format"):
        convert(tmp_path / "in", tmp_path / "d", **SMALL)


def test_a_list_of_files(folder: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"# in this order\n{folder / 'c.parquet'}\n\n  {folder / 'b'}  \n")
    convert(f"@{listed}", tmp_path / "d", **SMALL)
    assert len(read_images(tmp_path / "d")) == 4 + 6
    assert same_bits(read_images(tmp_path / "d")[:4], make_images(4, 0))
    with pytest.raises(ShardNotFoundError, match="nowhere"):
        convert("@nowhere", tmp_path / "e", **SMALL)
    listed.write_text("# nothing\n")
    with pytest.raises(ConfigError, match="empty list of files"):
        convert(f"@{listed}", tmp_path / "e", **SMALL)


def test_dry_run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", str(folder), str(tmp_path / "d"), *FLAGS, "--dry-run", "--quiet"]
    assert main([*arguments, "--exclude", "0-2", "--shard-samples", "4"]) == 0
    text = capsys.readouterr().out
    assert "image X: float32 [2, 6, 6]: ecal, time" in text
    assert "scalars: y (int64)" in text
    assert "would get 12 samples in" in text
    assert not (tmp_path / "d").exists()
    assert main([*arguments, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["n_samples"] == 15
    assert [source["n_samples"] for source in plan["sources"]] == [5, 6, 4]
    assert main(["convert", "nowhere", str(tmp_path / "d"), "--dry-run"]) == 1
