from __future__ import annotations

import json
from pathlib import Path

import pytest

import e2eio
import render
from e2eio.errors import ConfigError
from instructions import Count, compare, read_callgrind
from kernel_speed import condense

ORDER = ["avx512", "avx2", "neon", "scalar"]

CALLGRIND = """\
events: Ir
fn=void e2eio::(anonymous namespace)::transfer_lines<&e2eio::(anonymous namespace)::stream_line>(x)
0 40
cfn=memset
calls=2 10
0 1000
0 2
fn=e2eio::ImageDecoder::decode(std::span<std::byte const>)
12 5
fn=memset
0 1000
"""


def test_the_sets_come_best_first() -> None:
    names = e2eio.kernels()
    assert names == [name for name in ORDER if name in names]
    assert names[-1] == "scalar"


def test_the_best_set_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("E2EIO_KERNELS", raising=False)
    assert e2eio.kernel_set() == e2eio.kernels()[0]
    monkeypatch.setenv("E2EIO_KERNELS", "")
    assert e2eio.kernel_set() == e2eio.kernels()[0]


@pytest.mark.parametrize("name", e2eio.kernels())
def test_the_environment_forces_a_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2EIO_KERNELS", name)
    assert e2eio.kernel_set() == name


@pytest.mark.parametrize("name", ["mmx", "AVX2", "scalar "])
def test_a_set_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2EIO_KERNELS", name)
    with pytest.raises(ConfigError, match=f"E2EIO_KERNELS.*'{name}'.*expected one of .*scalar"):
        e2eio.kernel_set()


def test_instructions_of_called_functions_are_not_counted_twice() -> None:
    assert read_callgrind(CALLGRIND) == {
        "transfer_lines": 42,
        "ImageDecoder::decode": 5,
        "memset": 1000,
    }


@pytest.mark.parametrize(
    ("total", "stage", "faults"), [(110.0, 11.0, 0), (111.0, 10.0, 1), (100.0, 12.0, 1)]
)
def test_ten_percent_more_instructions_are_too_many(
    total: float, stage: float, faults: int
) -> None:
    figure = Count(100.0, {"merge": 10.0, "small": 1.0}, "")
    now = Count(total, {"merge": stage, "small": 4.0}, "")
    assert len(compare("avx2", now, figure)) == faults


def run_of(name: str, cycles: float) -> dict[str, object]:
    return {
        "run_name": name,
        "run_type": "iteration",
        "cycles_per_item": cycles,
        "cycles_per_byte": cycles / 8,
        "bytes_per_item": 8.0,
        "items_per_call": 495.0,
        "items_per_second": 1e9,
        "bytes_per_second": 8e9,
    }


def test_the_page_says_what_bounds_a_kernel(tmp_path: Path) -> None:
    runs = [run_of("affine/ecal/avx2", cycles) for cycles in (0.5, 9.0, 0.4)]
    runs += [run_of("merge_float32/ecal/scalar", 4.0), run_of("copy/first cache/memory", 0.4)]
    rows = condense([*runs, {"run_type": "aggregate"}])
    median = next(row for row in rows if row.kernel == "affine")
    assert (median.cycles_per_item, median.cycles_per_item_max, median.repetitions) == (0.5, 9.0, 3)
    environment = {"cpu": "c", "cores": 2, "kernel": "k", "commit": "d", "date": "2026-01-01"}
    folder = tmp_path / "2026-01-01-kernel_speed"
    folder.mkdir()
    text = json.dumps(
        {
            "environment": environment,
            "rows": [{key: getattr(row, key) for key in row.__slots__} for row in rows],
        }
    )
    (folder / "kernel_speed.json").write_text(text, encoding="utf-8")
    page = render.render(tmp_path)
    assert "| `affine` | ecal | avx2 | 495 | 8.0 | 0.50 | 80% | moving bytes |" in page
    assert "| `merge_float32` | ecal | scalar | 495 | 8.0 | 4.00 | 10% | instructions |" in page


def test_the_page_is_what_the_results_say() -> None:
    assert render.main(["--check"]) == 0, "run python benchmarks/render.py"
