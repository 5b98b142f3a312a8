"""Which samples are loaded, and how often: select, exclude, weights and mixtures."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio import sampling
from e2eio.errors import ConfigError, ShardNotFoundError
from e2eio.plan.expressions import condition
from e2eio.schema import Channel, ImageField, ScalarField, Schema

SIZES = (300, 500)
N = sum(SIZES)


@pytest.fixture(scope="module")
def columns() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(5)
    return {
        "y": np.repeat([0.0, 1.0], SIZES).astype(np.float32),
        "pt": (400 + rng.exponential(100, N)).astype(np.float32),
        "ieta": rng.integers(-5, 6, N).astype(np.int64),
        "good": rng.random(N) < 0.9,
    }


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory, columns: dict[str, NDArray[Any]]) -> list[Path]:
    directory = tmp_path_factory.mktemp("selection")
    schema = Schema(
        ImageField("X", (Channel("a", "GeV"),), 4, 4),
        tuple(ScalarField(name, str(column.dtype), "") for name, column in columns.items()),
    )
    begin = 0
    paths: list[Path] = []
    for size in SIZES:
        paths.append(directory / f"part{len(paths)}")
        with e2eio.write(paths[-1], schema) as writer:
            part = {name: column[begin : begin + size] for name, column in columns.items()}
            writer.append(np.ones((size, 1, 4, 4), dtype=np.float32), part)
        begin += size
    return paths


def load(paths: Any, **options: Any) -> NDArray[np.int64]:
    options = {"batch_size": 32, "fields": ("X", "sample_id"), "framework": "numpy", **options}
    with e2eio.Loader(paths, threads=1, **options) as loader:
        batches = [ids for _, ids in loader]
        assert len(batches) == len(loader)
    return np.concatenate(batches)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pt > 500 & y == 1", lambda c: (c["pt"] > 500) & (c["y"] == 1)),
        ("pt>500 && y==1||ieta==0", lambda c: (c["pt"] > 500) & (c["y"] == 1) | (c["ieta"] == 0)),
        ("400 < pt <= 450", lambda c: (c["pt"] > 400) & (c["pt"] <= 450)),
        ("not (y == 1 or abs(ieta) > 2)", lambda c: ~((c["y"] == 1) | (abs(c["ieta"]) > 2))),
        ("~(y == 1) | !good", lambda c: (c["y"] != 1) | ~c["good"]),
        ("ieta in (-1, 0, 1) and good", lambda c: np.isin(c["ieta"], (-1, 0, 1)) & c["good"]),
        ("ieta not in [2]", lambda c: c["ieta"] != 2),
        ("good", lambda c: c["good"]),
        ("pt / 2 - 1e2 * 2 ** -1 > -ieta + 200", lambda c: c["pt"] / 2 - 50 > -c["ieta"] + 200),
        ("ieta % 3 == 1 & ieta // 2 != 0", lambda c: (c["ieta"] % 3 == 1) & (c["ieta"] // 2 != 0)),
        ("  pt > 500\n  and y == 1", lambda c: (c["pt"] > 500) & (c["y"] == 1)),
    ],
)
def test_select_takes_what_numpy_says(
    paths: list[Path], columns: dict[str, NDArray[Any]], text: str, expected: Any
) -> None:
    ids = load(paths, select=text)
    np.testing.assert_array_equal(ids, np.flatnonzero(expected(columns)))
    shuffled = load(paths, select=text, shuffle=True)
    assert shuffled.tolist() != ids.tolist()
    np.testing.assert_array_equal(np.sort(shuffled), ids)


@pytest.mark.parametrize(
    ("text", "column", "what"),
    [
        ("ptt > 500", 1, "unknown scalar field 'ptt'; expected one of y, pt, ieta, good"),
        ("y == 1 & ptt > 500", 10, "unknown scalar field 'ptt'"),
        ("y == 1 && m", 11, "unknown scalar field 'm'"),
        ("__import__('os').system('true')", 1, "the only function is abs"),
        ("pt.__class__ == 1", 1, "unknown scalar field 'pt.__class__'"),
        ("(lambda: 1)() > 0", 1, "the only function is abs"),
        ("[pt for pt in (1, 2)]", 1, "not part of conditions"),
        ("pt[0] > 1", 1, "not part of conditions"),
        ("pt > 'a'", 6, "found 'a'; expected a number"),
        ("pt", 1, "expected a condition"),
        ("1 > 0", 1, "expected a condition"),
        ("y & pt > 500", 1, "expected a condition on each side"),
        ("y in pt", 6, "expected a list of numbers"),
        ("y in (1, pt)", 6, "numbers, not fields"),
        ("y is 1", 1, "compares objects"),
        ("abs(y, pt) > 1", 1, "one argument"),
        ("9 ** 9 ** 9 ** 9 > pt", 6, "a number out of range"),
        ("pt > 1 / 0", 6, "division by zero"),
        ("pt = 5", None, "invalid syntax"),
        ("pt >", 5, "invalid syntax"),
        ("pt > 500 &", 11, "invalid syntax"),
        ("pt > 500 and", 13, "invalid syntax"),
        ("10 ** 5000 < pt", 1, "a number out of range (that of float64, or int64)"),
        ("(" * 500 + "pt" + ")" * 500, None, "nested"),
        ("-" * 400 + "pt > 1", None, "nested more than 100 deep"),
        ("pt > 1\0", None, "null"),
    ],
)
def test_other_text_is_refused_and_its_place_is_shown(
    paths: list[Path], text: str, column: int | None, what: str
) -> None:
    with pytest.raises(ConfigError, match=r"^select: ") as caught:
        load(paths, select=text)
    assert what in str(caught.value)
    if column is not None:
        first, line, mark = str(caught.value).split("\n")
        assert first.endswith(f"(column {column})")
        assert line == f"    {text}"
        assert mark == " " * (4 + column - 1) + "^"


@pytest.mark.parametrize("text", ["", " \n "])
def test_an_empty_text_is_named(paths: list[Path], text: str) -> None:
    with pytest.raises(ConfigError, match=r"^select is empty; expected a condition as in"):
        load(paths, select=text)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "int8", "int16"])
def test_arithmetic_on_integers_does_not_wrap(dtype: str) -> None:
    values = {"n": np.array([0, 3, 7, 100], dtype=dtype)}

    def holds(text: str) -> list[bool]:
        return list(condition(text, ["n"], values.__getitem__))

    assert holds("n - 5 < 0") == [True, True, False, False]
    assert holds("abs(n - 5) < 3") == [False, True, True, False]
    assert holds("-n < -5") == [False, False, True, True]
    assert holds("n * 3 == 300") == [False, False, False, True]
    assert holds("n < n + 300") == [True] * 4


def test_uint64_beyond_int64_is_compared_but_not_computed_with() -> None:
    values = {"n": np.array([1, 2**64 - 1], dtype=np.uint64)}
    assert condition("n > 9223372036854775808", ["n"], values.__getitem__).tolist() == [False, True]
    with pytest.raises(ConfigError, match="uint64 values up to 18446744073709551615"):
        condition("n - 1 > 5", ["n"], values.__getitem__)


def test_conditions_compare_as_numpy_does() -> None:
    values = {"x": np.array([0.1, np.nan], dtype=np.float32)}
    for text in ("x == 0.1", "x in (7, 0.1)", "not (x not in (0.1,))"):
        assert condition(text, ["x"], values.__getitem__).tolist() == [True, False]
    assert condition("x != x", ["x"], values.__getitem__).tolist() == [False, True]


def test_an_empty_selection_says_what_there_is(paths: list[Path]) -> None:
    with pytest.raises(ConfigError, match=r"holds for none of 800 samples; .*pt is 400\.\d+ to"):
        load(paths, select="pt > 1e6")
    with pytest.raises(ConfigError, match="exclude names all 800"):
        load(paths, exclude=range(N))


def test_excluded_samples_do_not_come(paths: list[Path], tmp_path: Path) -> None:
    expected = sorted(set(range(N)) - {5, 799, 0})
    assert load(paths, exclude=[799, 5, 5, 0]).tolist() == expected
    assert load(paths, exclude=np.array([0, 5, 799], dtype=np.uint16)).tolist() == expected
    assert load(paths, exclude=[]).tolist() == list(range(N))
    listed = tmp_path / "corrupt.txt"
    listed.write_text("# known bad\n5\n\n 799 # truncated\n0\n")
    assert load(paths, exclude=listed).tolist() == expected
    assert load(paths, exclude=str(listed), shuffle="window", select="y == 0").size == 298
    listed.write_text("5\nfive\n")
    with pytest.raises(ConfigError, match=r"corrupt.txt, line 2: found 'five'"):
        load(paths, exclude=listed)
    with pytest.raises(ShardNotFoundError, match="exclude: no such file"):
        load(paths, exclude="nowhere.txt")
    for wrong, what in (([800], "sample 800 of"), ([-1], "sample -1"), ([0.5], "found float64")):
        with pytest.raises(ConfigError, match=what):
            load(paths, exclude=wrong)


def test_ranks_share_a_selection(paths: list[Path]) -> None:
    ranks = [load(paths, select="good", shuffle=True, rank=rank, world_size=3) for rank in range(3)]
    whole = load(paths, select="good")
    assert set(np.concatenate(ranks)) == set(whole)
    assert sum(map(len, ranks)) == -(-len(whole) // 3) * 3


def test_weights_balance_classes_and_flatten_spectra(
    paths: list[Path], columns: dict[str, NDArray[Any]]
) -> None:
    n = 20_000
    options: dict[str, Any] = {"shuffle": True, "samples_per_epoch": n, "batch_size": 500}
    y, pt = columns["y"], columns["pt"]
    ids = load(paths, weights=sampling.balanced("y"), **options)
    assert len(ids) == n
    assert abs(y[ids].mean() - 0.5) < 0.02
    flat = sampling.flat("pt", bins=5, limits=(400, 600), by="y")
    ids = load(paths, weights=flat, select="good", **options)
    assert columns["good"][ids].all()
    counts, _, _ = np.histogram2d(y[ids], pt[ids], bins=[(0, 0.5, 1), np.linspace(400, 600, 6)])
    assert counts.sum() == n  # and none from outside
    np.testing.assert_allclose(counts, n / 10, rtol=0.12)
    joint = sampling.flat(("pt", "ieta"), bins=[(400, 450, 600), (-5, 0, 5.5)])
    ids = load(paths, weights=joint, **options)
    counts, _, _ = np.histogram2d(
        pt[ids], columns["ieta"][ids], bins=[(400, 450, 600), (-5, 0, 5.5)]
    )
    np.testing.assert_allclose(counts, n / 4, rtol=0.1)
    product = sampling.balanced("y") * sampling.flat("pt", bins=[400, 500])
    assert repr(product) == "Weights(balanced('y') * flat('pt', bins=(400.0, 500.0)))"
    assert pt[load(paths, weights=product, **options)].max() <= 500


def test_weights_as_an_array_belong_to_the_samples_of_the_dataset(paths: list[Path]) -> None:
    weights = np.zeros(N)
    weights[[7, 400]] = (3, 1)
    counts = Counter(load(paths, weights=weights, shuffle=True, samples_per_epoch=8000).tolist())
    assert set(counts) == {7, 400}
    assert abs(counts[7] - 6000) < 250
    assert set(load(paths, weights=weights, shuffle=True, select="y == 1")) == {400}
    assert len(load(paths, weights=weights, shuffle=True, select="y == 1")) == 500


def test_mixtures_are_exact_without_repeats_and_survive_pickling(
    paths: list[Path], columns: dict[str, NDArray[Any]]
) -> None:
    dataset = pickle.loads(pickle.dumps(e2eio.Dataset(paths)))
    ids = load(dataset, weights=sampling.mix([0.7, 0.3]), shuffle=True, batch_size=20)
    assert len(ids) == N
    for begin in range(0, N, 20):
        assert (ids[begin : begin + 20] < 300).sum() == 14
    first = ids[ids < 300]
    assert sorted(first[:300]) == list(range(300))
    assert len(set(first[300:])) == len(first) - 300
    by_condition = sampling.mix({"y == 1 & pt > 500": 1, "y == 0": 1})
    ids = load(dataset, weights=by_condition, shuffle="window", exclude=[0, 799])
    assert (columns["y"][ids] == 1).sum() in (len(ids) // 2, len(ids) // 2 + 1)
    assert not {0, 799} & set(ids)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"weights": np.ones(N)}, "shuffle is False with weights"),
        ({"weights": np.ones(N), "shuffle": "window"}, "shuffle is 'window' with weights"),
        ({"weights": np.ones(3), "shuffle": True}, r"found float64 \[3\]; expected one number"),
        ({"weights": np.full(N, -1.0), "shuffle": True}, "found -1.0; expected finite"),
        ({"weights": np.full(N, np.nan), "shuffle": True}, "found nan"),
        ({"weights": np.zeros(N), "shuffle": True}, "all are 0"),
        ({"weights": sampling.balanced("m"), "shuffle": True}, "unknown scalar field"),
        ({"weights": sampling.flat("y", bins=[5, 6]), "shuffle": True}, "all are 0"),
        ({"samples_per_epoch": 10}, "samples_per_epoch is 10 without weights"),
        ({"shuffle": "windows"}, "expected True, False or 'window'"),
        ({"shuffle": 1}, "shuffle is 1"),
        ({"weights": sampling.mix([1, 2, 3])}, "3 shares; the dataset was made of 2 sources"),
        ({"weights": sampling.mix({"y == 0": 1, "y < 2": 1})}, "sample 0, and so does another"),
        ({"weights": sampling.mix([1, 1]), "select": "y == 1"}, "nothing in source 0 is selected"),
        ({"weights": sampling.mix({"z > 1": 1})}, "mix: unknown scalar field 'z'"),
    ],
)
def test_wrong_arguments_are_named(paths: list[Path], options: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        load(paths, **options)


def test_wrong_samplings_are_named() -> None:
    for make in (
        lambda: sampling.mix([]),
        lambda: sampling.mix([1, 0]),
        lambda: sampling.mix([1, 1e-6]),
        lambda: sampling.flat("pt", bins=0),
        lambda: sampling.flat("pt", bins=[3, 2]),
        lambda: sampling.flat("pt", bins="ab"),  # type: ignore[arg-type]
        lambda: sampling.flat("pt", limits=(5, 4)),
        lambda: sampling.flat(("a", "b"), limits=(1, 2)),
        lambda: sampling.flat(("a", "b"), bins=[3]),
        lambda: sampling.flat("pt", bins=True),
        lambda: sampling.balanced(3),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigError):
            make()
    assert sampling.mix([0.7, 0.3]).shares == (7, 3)
    assert sampling.mix([20, 10]).shares == (2, 1)
    assert sampling.mix([np.pi, 1]).shares == (759, 241)
