from __future__ import annotations

import json
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio.cli.main import main
from e2eio.dataset import Dataset
from e2eio.physics import Checks, Finding
from e2eio.physics.channels import channel_kind, is_signed
from e2eio.presets import PRESETS
from e2eio.progress import make_progress
from e2eio.schema import Channel, ImageField, ScalarField, Schema
from e2eio.summary import Classes, Repeats, make_classes, run_pass, stream

N = 60
TRACK_PT, D0, DZ, ECAL, HCAL, BPIX1 = range(6)
CHANNELS = PRESETS["boosted-top"].channels
SCALARS = (ScalarField("y", "float32"), ScalarField("pt", "float32", "GeV"))
Arrays = tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]


def sound_jets() -> Arrays:
    """Images in which nothing is wrong, as far as anybody checks; to be changed at will."""
    images, scalars = _sound_jets()
    return images.copy(), {name: column.copy() for name, column in scalars.items()}


@cache
def _sound_jets() -> Arrays:
    n = N
    random = np.random.default_rng(11)
    images = np.zeros((n, 8, 125, 125), dtype=np.float32)
    for image in images:
        flat = image.reshape(8, -1)
        tracks = random.choice(125 * 125, 60, replace=False)
        flat[TRACK_PT, tracks] = random.exponential(5, 60) + 0.5
        flat[D0, tracks] = random.normal(0, 0.01, 60)
        flat[DZ, tracks] = random.normal(0, 0.01, 60)
        flat[ECAL, random.choice(125 * 125, 500, replace=False)] = random.exponential(0.5, 500)
        towers = np.zeros(625)
        towers[random.choice(625, 50, replace=False)] = random.exponential(5, 50)
        image[HCAL] = np.kron(towers.reshape(25, 25), np.ones((5, 5))) / 25
        for layer in (5, 6, 7):
            flat[layer, random.choice(125 * 125, 150, replace=False)] = 1
    y = (np.arange(n) % 2).astype(np.float32)
    return images, {"y": y, "pt": random.uniform(400, 600, n).astype(np.float32)}


def write(
    path: Path, arrays: Arrays, channels: tuple[Channel, ...] = CHANNELS, shard_samples: int = 25
) -> Path:
    images, scalars = arrays
    fields = tuple(field for field in SCALARS if field.name in scalars)
    schema = Schema(ImageField("X_jets", channels, *images.shape[2:]), fields)
    with e2eio.write(path, schema, shard_samples=shard_samples, overwrite=True) as writer:
        writer.append(images, scalars)
    return path


def judge(path: Path, limit: int | None = None) -> list[Finding]:
    dataset = Dataset(path)
    checks = Checks(dataset.schema, make_classes(dataset))
    with make_progress(False) as progress:
        run_pass(
            dataset, checks.accumulators, classes=checks.classes, limit=limit, progress=progress
        )
    return checks.findings()


def test_nothing_is_found_in_sound_data(tmp_path: Path) -> None:
    assert judge(write(tmp_path / "data", sound_jets())) == []


def spoil(channel: int, samples: tuple[int, ...], value: float) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        for sample in samples:
            arrays[0][sample, channel, 60, 60 + sample % 7] = value

    return change


def shuffle_hcal(arrays: Arrays) -> None:
    arrays[0][5, HCAL] = np.roll(arrays[0][5, HCAL], 1, axis=1)


def kill_channel(arrays: Arrays) -> None:
    arrays[0][:, BPIX1] = 0


def kill_rows(arrays: Arrays) -> None:
    arrays[0][:, ECAL, 40:43] = 0


def kill_column(arrays: Arrays) -> None:
    arrays[0][:, ECAL, :, 77] = 0


def same_pixel(arrays: Arrays) -> None:
    arrays[0][:, ECAL, 3, 3] = 0.25


def in_mev(arrays: Arrays) -> None:
    arrays[0][:, ECAL] *= 1000


def not_divided(arrays: Arrays) -> None:
    arrays[0][:, HCAL] *= 25


def empty(arrays: Arrays) -> None:
    arrays[0][[3, 9]] = 0


def twice(arrays: Arrays) -> None:
    arrays[0][40] = arrays[0][7]


def huge(arrays: Arrays) -> None:
    arrays[0][12, ECAL] *= 15


def unbalanced(arrays: Arrays) -> None:
    arrays[1]["y"][:] = 0
    arrays[1]["y"][:2] = 1


def one_class(arrays: Arrays) -> None:
    arrays[1]["y"][:] = 1


def nan_pt(arrays: Arrays) -> None:
    arrays[1]["pt"][[1, 8]] = np.nan


def negative_pt(arrays: Arrays) -> None:
    arrays[1]["pt"][4] = -1


CASES = [
    (spoil(ECAL, (2, 30), np.nan), "not-finite", "failure", "ecal", 2, (2, 30)),
    (spoil(BPIX1, (2,), np.inf), "not-finite", "failure", "bpix1", 1, (2,)),
    (spoil(ECAL, (4, 1), -0.5), "negative-energy", "failure", "ecal", 2, (1, 4)),
    (spoil(BPIX1, (8,), -1), "negative-energy", "failure", "bpix1", 1, (8,)),
    (spoil(D0, (5,), -17.9), "track-tails", "warning", "d0", 1, (5,)),
    (spoil(DZ, (6,), 66), "track-tails", "warning", "dz", 1, (6,)),
    (spoil(D0, (5,), 130), "outside-tracker", "failure", "d0", 1, (5,)),
    (spoil(DZ, (5,), -255), "track-tails", "warning", "dz", 1, (5,)),
    (spoil(DZ, (5,), -300), "outside-tracker", "failure", "dz", 1, (5,)),
    (spoil(BPIX1, (7,), 1.5), "broken-hits", "warning", "bpix1", 1, (7,)),
    (shuffle_hcal, "blocks", "warning", "hcal", 1, (5,)),
    (kill_channel, "dead-channel", "warning", "bpix1", 1, ()),
    (kill_rows, "dead-lines", "warning", "ecal", 3, ()),
    (kill_column, "dead-lines", "warning", "ecal", 1, ()),
    (same_pixel, "constant-pixels", "warning", "ecal", 1, ()),
    (in_mev, "energy-balance", "warning", "hcal", 1, ()),
    (not_divided, "energy-balance", "warning", "ecal", 1, ()),
    (empty, "empty-samples", "warning", "", 2, (3, 9)),
    (twice, "duplicates", "warning", "", 1, (7, 40)),
    (huge, "outliers", "note", "ecal", 1, (12,)),
    (unbalanced, "class-balance", "warning", "", 2, ()),
    (one_class, "one-class", "note", "", 1, ()),
    (nan_pt, "scalar-not-finite", "failure", "", 2, (1, 8)),
    (negative_pt, "negative-scalar", "warning", "", 1, (4,)),
]


@pytest.mark.parametrize(
    ("change", "check", "severity", "channel", "count", "samples"),
    CASES,
    ids=[f"{case[1]}-{case[3]}-{number}" for number, case in enumerate(CASES)],
)
def test_each_check_fires_exactly_once(
    change: Callable[[Arrays], None],
    check: str,
    severity: str,
    channel: str,
    count: int,
    samples: tuple[int, ...],
    tmp_path: Path,
) -> None:
    arrays = sound_jets()
    change(arrays)
    found = judge(write(tmp_path / "data", arrays))
    assert [(f.check, f.severity, f.channel, f.count, f.samples) for f in found] == [
        (check, severity, channel, count, samples)
    ]
    assert found[0].text
    assert found[0].advice


def test_a_pixel_above_the_beam_energy_is_a_warning_and_an_outlier(tmp_path: Path) -> None:
    arrays = sound_jets()
    arrays[0][3, ECAL, 0, 0] = 7001
    found = judge(write(tmp_path / "data", arrays))
    assert [(f.check, f.channel, f.samples) for f in found] == [
        ("beyond-beam-energy", "ecal", (3,)),
        ("outliers", "ecal", (3,)),
    ]


def test_units_other_than_gev_and_cm_are_converted(tmp_path: Path) -> None:
    images, scalars = sound_jets()
    images[:, ECAL] *= 1000
    images[:, D0] *= 10
    channels = list(CHANNELS)
    channels[ECAL], channels[D0] = Channel("ecal", "MeV"), Channel("d0", "mm")
    images[5, D0, 60, 60] = 99
    assert judge(write(tmp_path / "a", (images, scalars), tuple(channels))) == []
    images[5, D0, 60, 60] = 101
    found = judge(write(tmp_path / "b", (images, scalars), tuple(channels)))
    assert [(f.check, f.channel) for f in found] == [("track-tails", "d0")]


def test_normalised_channels_without_a_unit_are_not_judged_as_energies(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    images = random.normal(size=(20, 2, 32, 32)).astype(np.float32)
    channels = (Channel("ecal"), Channel("d0"))
    assert judge(write(tmp_path / "data", (images, {}), channels)) == []


def test_findings_do_not_depend_on_chunks_or_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = sound_jets()
    for change in (twice, huge, empty, same_pixel, kill_rows, nan_pt):
        change(arrays)
    spoil(ECAL, tuple(range(10, 30)), np.nan)(arrays)
    one = judge(write(tmp_path / "one", arrays, shard_samples=1000))
    assert len(one) >= 6
    monkeypatch.setattr(stream, "_SAMPLES", 7)
    assert judge(write(tmp_path / "many", arrays, shard_samples=11)) == one
    monkeypatch.setattr(stream, "_SAMPLES", 1)
    assert judge(tmp_path / "many") == one


def test_nearly_equal_is_neither_a_copy_nor_constant(tmp_path: Path) -> None:
    images, scalars = sound_jets()
    images[:, ECAL, 3, 3] = np.linspace(2, 1, N)  # always filled, always less than before
    images[:, ECAL, 9, 9] = np.linspace(1, 2, N)
    for copy, row, column in ((40, 60, 60), (41, 0, 0), (42, 124, 124)):
        images[copy] = images[7]
        images[copy, BPIX1, row, column] += 1
    assert judge(write(tmp_path / "data", (images, scalars))) == []


def test_a_limit_takes_that_many_samples_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_SAMPLES", 5)  # 17 is no multiple
    path = write(tmp_path / "data", sound_jets())

    def seen(limit: int) -> list[int]:
        chunks = stream.read_chunks(Dataset(path), classes=Classes("", ("all",)), limit=limit)
        return [int(number) for chunk in chunks for number in chunk.ids]

    some = seen(17)
    assert len(set(some)) == len(some) == 17
    assert seen(17) == some
    assert seen(1000) == list(range(N))


def test_fingerprints_kept_are_bounded_and_copies_are_kept_together(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.exponential(size=(2000, 1, 2, 2)).astype(np.float32)
    images[1000:] = images[:1000]
    path = write(tmp_path / "data", (images, {}), (Channel("ecal"),), shard_samples=300)
    repeats = Repeats(most=400)
    with make_progress(False) as progress:
        run_pass(Dataset(path), [repeats], classes=Classes("", ("all",)), progress=progress)
    groups = repeats.groups()
    assert repeats.bits == 3
    assert 0 < sum(group.size for group in groups) <= 400
    assert all(group.size == 2 and group[1] - group[0] == 1000 for group in groups)
    assert len(groups) << repeats.bits == pytest.approx(1000, rel=0.25)


def test_what_a_channel_is_follows_from_name_and_unit() -> None:
    assert channel_kind(Channel("a", "GeV")) == "energy"
    assert channel_kind(Channel("a", " gev ")) == "energy"
    assert channel_kind(Channel("a", "cm")) == "length"
    assert channel_kind(Channel("a", "hits")) == "hits"
    assert channel_kind(Channel("ecal")) == "other"
    assert is_signed(Channel("d0", "cm"), None)
    assert is_signed(Channel("time"), -1)
    assert not is_signed(Channel("time"), 0)
    assert not is_signed(Channel("ecal", "GeV"), -1)


def test_the_command_says_ok_warns_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = str(write(tmp_path / "good", sound_jets()))
    arrays = sound_jets()
    twice(arrays)
    odd = str(write(tmp_path / "odd", arrays))
    spoil(ECAL, (2,), np.nan)(arrays)
    bad = str(write(tmp_path / "bad", arrays))
    assert main(["verify", "--quiet", "--physics", good]) == 0
    out = capsys.readouterr().out.splitlines()
    assert (
        out[1] == f"physics: {good}: {N} samples looked at: 0 failure(s), 0 warning(s), 0 note(s)"
    )
    assert main(["verify", "--quiet", "--physics", good, odd]) == 0
    assert "warning: duplicates: 1 samples" in capsys.readouterr().out
    assert main(["verify", "--quiet", "--physics", odd, bad]) == 1
    done = capsys.readouterr()
    assert "failure: not-finite in 'ecal'" in done.out
    assert done.err.startswith(f"e2eio: physics checks failed: {bad}: ")
    assert done.err.count("\n") == 1


def test_json_has_the_findings_and_only_where_they_were_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = sound_jets()
    empty(arrays)
    path = str(write(tmp_path / "data", arrays))
    assert main(["verify", "--quiet", "--json", "--physics", path]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ok"] is True
    (judged,) = result["physics"]
    assert (judged["path"], judged["n_samples"]) == (path, N)
    (finding,) = judged["findings"]
    assert (finding["check"], finding["samples"]) == ("empty-samples", [3, 9])
    assert main(["verify", "--quiet", "--json", path]) == 0
    assert "physics" not in json.loads(capsys.readouterr().out)


def test_damaged_bytes_are_told_before_the_physics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "data", sound_jets())
    shard = path / "shard-00000.e2e"
    data = bytearray(shard.read_bytes())
    data[200] ^= 1
    shard.write_bytes(data)
    assert main(["verify", "--quiet", "--physics", str(path)]) == 1
    done = capsys.readouterr()
    assert "verification failed" in done.err
    assert "physics" not in done.out


def test_published_and_truth_images_are_sound_but_for_tails(
    truth_x1: dict[str, NDArray[np.float32]], tmp_path: Path
) -> None:
    scalars = {name: truth_x1[name] for name in ("y", "pt")}
    found = judge(write(tmp_path / "data", (truth_x1["X"], scalars)))
    assert {finding.check for finding in found} <= {"track-tails"}


def test_x3_blocks_are_those_of_the_upsampling(
    truth_x3: dict[str, NDArray[np.float32]], tmp_path: Path
) -> None:
    images = truth_x3["X"].copy()
    scalars = {name: truth_x3[name] for name in ("y", "pt")}
    found = judge(write(tmp_path / "data", (images, scalars)))
    assert {finding.check for finding in found} <= {"track-tails"}
    images[2, ECAL] = np.roll(images[2, ECAL], 1, axis=0)
    found = judge(write(tmp_path / "moved", (images, scalars)))
    assert [(f.channel, f.samples) for f in found if f.check == "blocks"] == [("ecal", (2,))]


def test_interrupted_by_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "data", sound_jets())
    monkeypatch.setattr(stream, "_SAMPLES", 5)
    add = Checks.__init__

    class Interrupting:
        def add(self, _: object) -> None:
            signal.raise_signal(signal.SIGINT)

    def with_signal(self: Checks, *args: Any) -> None:
        add(self, *args)
        self.pixels = Interrupting()  # type: ignore[assignment]

    monkeypatch.setattr(Checks, "__init__", with_signal)
    assert main(["verify", "--quiet", "--physics", str(path)]) == 130
    assert capsys.readouterr().err.startswith("e2eio: interrupted")
