from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from e2eio.errors import ConfigError
from e2eio.presets import PRESETS, find_preset, recognise, scalar_unit
from e2eio.schema import DTYPES, Channel, ImageField, ScalarField, Schema

CHANNELS = (Channel("track_pt", "GeV"), Channel("d0", "cm"))


def make_schema() -> Schema:
    scalars = tuple(ScalarField(f"s_{dtype}", dtype, "GeV") for dtype in DTYPES)
    return Schema(ImageField("X_jets", CHANNELS, 5, 7, "float16"), scalars)


def test_names_shape_and_order() -> None:
    schema = make_schema()
    assert schema.image.shape == (2, 5, 7)
    assert schema.channels == ("track_pt", "d0")
    assert schema.field_names[:2] == ("X_jets", "s_float32")


def test_json_round_trip() -> None:
    schema = make_schema()
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


def test_json_is_what_the_format_says() -> None:
    schema = Schema(ImageField("X", CHANNELS, 5, 7), (ScalarField("y", "int64"),))
    assert schema.to_json() == {
        "image": {
            "name": "X",
            "shape": [2, 5, 7],
            "precision": "float32",
            "channels": [{"name": "track_pt", "unit": "GeV"}, {"name": "d0", "unit": "cm"}],
        },
        "scalars": [{"name": "y", "dtype": "int64", "unit": ""}],
    }


def test_core_round_trip() -> None:
    schema = make_schema()
    assert Schema.from_core(schema.to_core()) == schema


def test_pickles_and_is_frozen() -> None:
    schema = make_schema()
    assert pickle.loads(pickle.dumps(schema)) == schema
    with pytest.raises(AttributeError):
        schema.image.name = "Y"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "image name"),
        ({"name": "a\0b"}, "NUL"),
        ({"name": "\ud800"}, "Unicode"),
        ({"name": "x" * 65_536}, "65535"),
        ({"channels": ()}, "number of channels"),
        ({"channels": (Channel("a"), Channel("a"))}, "'a' occurs twice"),
        ({"height": 0}, "height"),
        ({"height": True}, "height"),
        ({"width": 65_536}, "width"),
        ({"height": 20_000, "width": 20_000}, "too large"),
        ({"precision": "float64"}, "float64"),
    ],
)
def test_wrong_image(fields: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"name": "X", "channels": CHANNELS, "height": 4, "width": 4}
    ImageField(**good)
    with pytest.raises(ConfigError, match=message):
        ImageField(**{**good, **fields})


def test_wrong_scalars() -> None:
    image = ImageField("X", CHANNELS, 4, 4)
    with pytest.raises(ConfigError, match="'X' occurs twice"):
        Schema(image, (ScalarField("X", "int8"),))
    with pytest.raises(ConfigError, match="float16"):
        ScalarField("y", "float16")


@pytest.mark.parametrize(
    "damage",
    [
        lambda j: j.pop("scalars"),
        lambda j: j.update(extra=1),
        lambda j: j["image"].update(shape=[3, 5, 7]),
        lambda j: j["image"].update(shape=[2, 5.0, 7]),
        lambda j: j["image"].update(shape=7),
        lambda j: j["image"].update(channels={}),
        lambda j: j["image"]["channels"][0].update(unit=None),
        lambda j: j["image"].update(precision=["float32"]),
        lambda j: j["scalars"].append("y"),
    ],
)
def test_wrong_json_is_refused(damage: Callable[[Any], object]) -> None:
    value = make_schema().to_json()
    damage(value)
    with pytest.raises(ConfigError):
        Schema.from_json(value)


def test_presets_have_the_orders_of_their_producers() -> None:
    names = {name: [channel.name for channel in p.channels] for name, p in PRESETS.items()}
    run_1 = ["track_pt", "d0", "dz", "ecal", "hcal", "bpix1", "bpix2", "bpix3"]
    assert names["boosted-top"] == names["top-mass"] == run_1
    assert names["quark-gluon"] == ["track_pt", "ecal", "hcal"]
    assert names["tau"][:5] == ["track_pt", "dz", "d0", "ecal", "hcal"]
    assert names["tau"][5:] == [*(f"bpix{k}" for k in (1, 2, 3, 4)), "tib1", "tib2", "tob1", "tob2"]
    units = {channel.name: channel.unit for p in PRESETS.values() for channel in p.channels}
    assert (units["ecal"], units["d0"], units["tob2"]) == ("GeV", "cm", "hits")
    assert (scalar_unit("pt"), scalar_unit("y")) == ("GeV", "")


@pytest.mark.parametrize(
    ("image", "scalars", "shape", "name"),
    [
        ("X_jets", ("y",), (8, 125, 125), "boosted-top"),
        ("X_jets", ("y",), (8, 375, 375), "boosted-top"),
        ("X_jet", ("m", "pt"), (8, 125, 125), "top-mass"),
        ("X_jets", ("y",), (3, 125, 125), "quark-gluon"),
        ("all_jet", ("am",), (13, 125, 125), "tau"),
        ("X_jets", ("y",), (5, 125, 125), None),
        ("X_jets", ("y",), (8, 32, 32), None),
        ("X_jets", ("y",), (8, 125, 375), None),
        ("picture", ("y",), (3, 125, 125), None),
    ],
)
def test_recognition(
    image: str, scalars: tuple[str, ...], shape: tuple[int, int, int], name: str | None
) -> None:
    found = recognise(image, scalars, shape)
    assert (None if found is None else found.name) == name


def test_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="boosted-top"):
        find_preset("top")
