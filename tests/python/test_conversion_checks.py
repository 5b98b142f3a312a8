"""No sample is lost or changed silently, and a source that changes is noticed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conversion_toys import (
    BOOSTED_X1,
    SMALL,
    TOP_GUN,
    make_images,
    names,
    write_small,
)
from e2eio import manifest, shards
from e2eio.conversion import convert, make_options, plan_conversion, work, write_shard
from e2eio.errors import ConfigError, CorruptShardError, ImporterError
from e2eio.importers import Chunk
from e2eio.importers.parquet import ParquetSource
from e2eio.shards import open_shard

HERE: dict[str, Any] = {"progress": False, "isolate": False, "processes": 1}


class WrongWriter:
    """Writes what it is told, but for one sample; stands for a machine with bad memory."""

    def __init__(self, writer: Any, wrong: str) -> None:
        self._writer, self._wrong = writer, wrong
        self._digests: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def append(self, images: Any, scalars: Any) -> Any:
        result = self._writer.append(images, scalars)
        given = self._writer.sample_digests().tolist()
        self._digests = list(given)
        if self._wrong == "sample" and len(given) > 5:
            self._digests[5] ^= 1
        if self._wrong == "count":
            self._digests.append(1)
        return result

    def sample_digests(self) -> Any:
        return np.array(self._digests, np.uint64)


@pytest.mark.parametrize(
    ("wrong", "found"), [("sample", "of sample 5"), ("count", "found 10 samples, expected 11")]
)
def test_a_shard_that_is_not_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, found: str
) -> None:
    path = write_small(tmp_path / "a.parquet", make_images(10))
    original = shards.open_writer
    monkeypatch.setattr(work, "open_writer", lambda *a, **k: WrongWriter(original(*a, **k), wrong))
    with pytest.raises(CorruptShardError, match=rf"shard-00000\.e2e: .*{found}.*a\.parquet"):
        convert(path, tmp_path / "d", **SMALL)
    assert not (tmp_path / "d").exists()
    convert(path, tmp_path / "d", check=False, **SMALL)
    assert names(tmp_path / "d") == ["dataset.json", "shard-00000.e2e"]


def test_content_is_that_of_the_samples(tmp_path: Path, published: Path) -> None:
    whole = convert(published / BOOSTED_X1, tmp_path / "1", **HERE)
    cut = convert(
        published / BOOSTED_X1,
        tmp_path / "2",
        shard_samples=50,
        compression_level=9,
        check=False,
        **HERE,
    )
    assert whole.content == cut.content
    assert whole.digest != cut.digest
    assert manifest.read(tmp_path / "1").content == whole.content
    reader = open_shard(tmp_path / "1" / whole.shards[0].file)
    digests = reader.sample_digests(0, 128)
    assert manifest.content_digest(digests) == whole.content
    fewer = convert(published / BOOSTED_X1, tmp_path / "3", exclude=[7], **HERE)
    assert fewer.content == manifest.content_digest(np.delete(digests, 7))
    # A resumed conversion knows it too.
    (tmp_path / "2" / "dataset.json").unlink()
    (tmp_path / "2" / "shard-00001.e2e").unlink()
    again = convert(
        published / BOOSTED_X1,
        tmp_path / "2",
        shard_samples=50,
        compression_level=9,
        **HERE,
    )
    assert again.content == whole.content


def test_content_does_not_depend_on_the_format(tmp_path: Path, published: Path) -> None:
    """The same images as flat lists of float32, and as nested ones with other scalars."""
    one = convert(published / BOOSTED_X1, tmp_path / "1", scalars=[], **HERE)
    other = convert(published / TOP_GUN, tmp_path / "2", scalars=[], **HERE)
    first = open_shard(tmp_path / "1" / one.shards[0].file).sample_digests(0, 16)
    assert other.content == manifest.content_digest(first)


@pytest.mark.parametrize("change", ["append", "replace", "touch"])
def test_a_source_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = write_small(tmp_path / "a.parquet", make_images(20))
    original = ParquetSource.chunks

    def chunks(self: ParquetSource, begin: int, end: int) -> Iterator[Chunk]:
        yield from original(self, begin, end)
        if change == "append":
            with path.open("ab") as stream:
                stream.write(b"x")
        elif change == "replace":
            path.with_suffix(".new").write_bytes(path.read_bytes())
            path.with_suffix(".new").replace(path)
        else:
            os.utime(path, ns=(1, 1))

    monkeypatch.setattr(ParquetSource, "chunks", chunks)
    with pytest.raises(ImporterError, match=r"changed while it was read: .*a\.parquet"):
        convert(path, tmp_path / "d", **SMALL)
    assert not (tmp_path / "d").exists()


def test_a_source_that_changed_after_the_plan(tmp_path: Path) -> None:
    path = write_small(tmp_path / "a.parquet", make_images(20))
    options = make_options(shape=(2, 6, 6), channels=("a", "b"))
    plan = plan_conversion(path, options, **HERE)

    def write() -> None:
        write_shard(plan.tasks[0], plan.schema, options, tmp_path, lambda n: None)

    write()
    before = (tmp_path / "shard-00000.e2e").read_bytes()
    write()  # again: the same
    assert (tmp_path / "shard-00000.e2e").read_bytes() == before
    write_small(path, make_images(20, 5))
    with pytest.raises(ImporterError, match="changed while it was read"):
        write()
    write_small(path, make_images(20)[:, :, :3, :])
    with pytest.raises(ConfigError, match="shape of images differs"):
        write()


def test_tasks_and_shards_can_be_pickled(tmp_path: Path) -> None:
    import pickle

    path = write_small(tmp_path / "a.parquet", make_images(20))
    options = make_options(shape=(2, 6, 6), channels=("a", "b"))
    plan = plan_conversion(path, options, labels=[3], label_field="z", isolate=False)
    task, schema, options = pickle.loads(pickle.dumps((plan.tasks[0], plan.schema, options)))
    shard = write_shard(task, schema, options, tmp_path, lambda n: None)
    assert pickle.loads(pickle.dumps(shard)) == shard
    assert shard.entry.n_samples == 20
