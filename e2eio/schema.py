"""What one sample consists of: an image field with named channels, and scalar fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast

from e2eio.errors import ConfigError

if TYPE_CHECKING:
    from e2eio import _core

__all__ = [
    "DTYPES",
    "Channel",
    "ImageField",
    "Precision",
    "ScalarField",
    "Schema",
    "difference",
]

Precision = Literal["float32", "float16"]

#: numpy names of the dtypes that a scalar field may have.
DTYPES: Final = (
    *("float32", "float64", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64", "bool"),
)

_PRECISIONS: Final = ("float32", "float16")
_MAX_EDGE: Final = 65_535
_MAX_SAMPLE_BYTES: Final = 1 << 30
_MAX_NAME_BYTES: Final = 65_535


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of an image.

    Parameters
    ----------
    name : str
        Unique within the image.
    unit : str
        Of its pixels, for example ``"GeV"``; empty: a pure number.
    """

    name: str
    unit: str = ""

    def __post_init__(self) -> None:
        _check_name("channel name", self.name)
        _check_text(f"unit of channel {self.name!r}", self.unit)


@dataclass(frozen=True, slots=True)
class ImageField:
    """The image of a sample, delivered as float32 [C, H, W].

    Parameters
    ----------
    name : str
        As in the source, for example ``"X_jets"``.
    channels : tuple of Channel
        In the order in which they are delivered.
    height, width : int
        Rows (ieta) and columns (iphi), 1 to 65,535 pixels.
    precision : {"float32", "float16"}
        Of the stored values: bit for bit, or rounded when written.
    """

    name: str
    channels: tuple[Channel, ...]
    height: int
    width: int
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        _check_name("image name", self.name)
        _check_edge("number of channels", len(self.channels))
        _check_edge("height", self.height)
        _check_edge("width", self.width)
        n_bytes = 4 * len(self.channels) * self.height * self.width
        if n_bytes > _MAX_SAMPLE_BYTES:
            raise ConfigError(
                f"image too large: {self.name!r}: found {n_bytes} bytes a sample, "
                f"expected at most {_MAX_SAMPLE_BYTES}; crop it"
            )
        if self.precision not in _PRECISIONS:
            raise ConfigError(
                f"unknown precision: {self.name!r}: found {self.precision!r}, "
                f"expected one of {', '.join(_PRECISIONS)}"
            )
        _check_unique("channel names", [channel.name for channel in self.channels])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (len(self.channels), self.height, self.width)


@dataclass(frozen=True, slots=True)
class ScalarField:
    """One number per sample.

    Parameters
    ----------
    name : str
        As in the source, for example ``"pt"``.
    dtype : str
        A numpy name out of ``DTYPES``.
    unit : str
        For example ``"GeV"``; empty: a pure number.
    """

    name: str
    dtype: str
    unit: str = ""

    def __post_init__(self) -> None:
        _check_name("scalar name", self.name)
        _check_text(f"unit of scalar {self.name!r}", self.unit)
        if self.dtype not in DTYPES:
            raise ConfigError(
                f"unknown dtype: scalar {self.name!r}: found {self.dtype!r}, "
                f"expected one of {', '.join(DTYPES)}"
            )


@dataclass(frozen=True, slots=True)
class Schema:
    """The fields of every sample of a dataset.

    Parameters
    ----------
    image : ImageField
    scalars : tuple of ScalarField

    Raises
    ------
    ConfigError
        A name is empty or occurs twice, or a size is out of range.

    Examples
    --------
    >>> image = ImageField("X_jets", (Channel("ecal", "GeV"), Channel("hcal", "GeV")), 125, 125)
    >>> schema = Schema(image, (ScalarField("y", "float32"),))
    >>> schema.channels, schema.field_names, schema.image.shape
    (('ecal', 'hcal'), ('X_jets', 'y'), (2, 125, 125))
    """

    image: ImageField
    scalars: tuple[ScalarField, ...] = ()

    def __post_init__(self) -> None:
        _check_unique("field names", list(self.field_names))
        if len(self.scalars) > _MAX_EDGE:
            raise ConfigError(
                f"too many scalar fields: found {len(self.scalars)}, expected at most {_MAX_EDGE}"
            )

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return tuple(channel.name for channel in self.image.channels)

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of all fields, the image first."""
        return (self.image.name, *(scalar.name for scalar in self.scalars))

    def to_core(self) -> _core.Schema:
        """Return the same schema for the compiled core."""
        from e2eio import _core

        return _core.Schema(
            self.image.name,
            self.image.height,
            self.image.width,
            list(self.channels),
            [channel.unit for channel in self.image.channels],
            [scalar.name for scalar in self.scalars],
            [scalar.dtype for scalar in self.scalars],
            [scalar.unit for scalar in self.scalars],
            self.image.precision,
        )

    @classmethod
    def from_core(cls, core: _core.Schema) -> Schema:
        """Return the schema that the compiled core read from a shard."""
        channels = zip(core.channel_names, core.channel_units, strict=True)
        scalars = zip(core.scalar_names, core.scalar_dtypes, core.scalar_units, strict=True)
        return cls(
            ImageField(
                core.image_name,
                tuple(Channel(name, unit) for name, unit in channels),
                core.height,
                core.width,
                cast("Precision", core.precision),
            ),
            tuple(ScalarField(name, dtype, unit) for name, dtype, unit in scalars),
        )

    def to_json(self) -> dict[str, object]:
        """Return what ``dataset.json`` holds under ``schema``."""
        return {
            "image": {
                "name": self.image.name,
                "shape": list(self.image.shape),
                "precision": self.image.precision,
                "channels": [{"name": c.name, "unit": c.unit} for c in self.image.channels],
            },
            "scalars": [{"name": s.name, "dtype": s.dtype, "unit": s.unit} for s in self.scalars],
        }

    @classmethod
    def from_json(cls, value: object) -> Schema:
        """Return the schema that `to_json` made into `value`.

        Raises
        ------
        ConfigError
            A key is missing or unknown, a value has the wrong type, or the schema is not valid.
        """
        top = _members(value, "schema", ("image", "scalars"))
        image = _members(top["image"], "image", ("name", "shape", "precision", "channels"))
        channels = tuple(
            Channel(_text(item, "name"), _text(item, "unit"))
            for item in _objects(image["channels"], "channels", ("name", "unit"))
        )
        shape = image["shape"]
        if not isinstance(shape, list) or len(shape) != 3 or shape[0] != len(channels):
            raise ConfigError(
                f"wrong shape in schema: found {shape!r}, expected [{len(channels)}, H, W]"
            )
        scalars = tuple(
            ScalarField(_text(item, "name"), _text(item, "dtype"), _text(item, "unit"))
            for item in _objects(top["scalars"], "scalars", ("name", "dtype", "unit"))
        )
        precision = cast("Precision", _text(image, "precision"))
        field = ImageField(_text(image, "name"), channels, shape[1], shape[2], precision)
        return cls(field, scalars)


def difference(found: Schema, expected: Schema) -> str | None:
    """Say in what the first schema differs from the second, for messages; None: in nothing.

    Examples
    --------
    >>> image = ImageField("X", (Channel("ecal", "GeV"),), 4, 4)
    >>> difference(Schema(image), Schema(image, (ScalarField("y", "int8"),)))
    "scalar fields [], expected ['y (int8)']"
    """
    for one, other in zip(_described(found), _described(expected), strict=True):
        if one != other:
            return f"{one[0]} {one[1]}, expected {other[1]}"
    return None


def _described(schema: Schema) -> list[tuple[str, object]]:
    image = schema.image
    return [
        ("image", repr(image.name)),
        ("shape C, H, W", image.shape),
        ("channels", list(schema.channels)),
        ("units of channels", [channel.unit for channel in image.channels]),
        ("precision", image.precision),
        ("scalar fields", [f"{field.name} ({field.dtype})" for field in schema.scalars]),
        ("units of scalar fields", [field.unit for field in schema.scalars]),
    ]


def _check_text(what: str, value: object) -> None:
    if not isinstance(value, str):
        raise ConfigError(f"wrong {what}: found {value!r}, expected text")
    try:
        n_bytes = len(value.encode())
    except UnicodeEncodeError:
        raise ConfigError(f"wrong {what}: found {value!r}, expected valid Unicode") from None
    if n_bytes > _MAX_NAME_BYTES or "\0" in value:
        raise ConfigError(
            f"wrong {what}: found {n_bytes} bytes, expected at most {_MAX_NAME_BYTES} and no NUL"
        )


def _check_name(what: str, value: object) -> None:
    _check_text(what, value)
    if not value:
        raise ConfigError(f"wrong {what}: found an empty one, expected at least one character")


def _check_edge(what: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_EDGE:
        raise ConfigError(f"wrong {what}: found {value!r}, expected 1 to {_MAX_EDGE}")


def _check_unique(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{what} not unique: {twice[0]!r} occurs twice; rename one of them")


def _members(value: object, what: str, keys: tuple[str, ...]) -> Mapping[str, object]:
    if not isinstance(value, dict) or set(value) != set(keys):
        found = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise ConfigError(f"wrong {what} in schema: found {found!r}, expected keys {list(keys)!r}")
    return value


def _objects(value: object, what: str, keys: tuple[str, ...]) -> list[Mapping[str, object]]:
    if not isinstance(value, list):
        raise ConfigError(f"wrong {what} in schema: found {type(value).__name__}, expected a list")
    return [_members(item, what, keys) for item in value]


def _text(members: Mapping[str, object], key: str) -> str:
    value = members[key]
    if not isinstance(value, str):
        raise ConfigError(f"wrong {key} in schema: found {value!r}, expected text")
    return value
