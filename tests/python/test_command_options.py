"""Options are named once: what the command line calls them is what the functions call them, with one default."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import pytest

import e2eio
from e2eio.cli.main import _make_parser
from e2eio.conversion import OPTION_NAMES, PlanOptions, convert, make_options, plan_conversion
from e2eio.importers import ImportOptions

OF_THE_COMMAND = {"command", "run", "json", "dry_run"}


@pytest.mark.parametrize(
    ("function", "words", "missing"),
    [
        (convert, ["convert", "a", "b"], set()),
        (e2eio.merge, ["merge", "a", "b"], set()),
        (e2eio.split, ["split", "a", "b", "--by", "y"], {"shard_samples"}),
        (e2eio.shuffle, ["shuffle", "a", "b"], set()),
        (e2eio.repack, ["repack", "a", "b"], set()),
        (e2eio.export, ["export", "a", "b"], set()),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_options_of_a_command_are_the_parameters(
    function: Callable[..., Any], words: list[str], missing: set[str]
) -> None:
    told = vars(_make_parser().parse_args(words))
    parameters = inspect.signature(function).parameters
    assert set(told) - OF_THE_COMMAND == set(parameters) - missing
    given = {"sources", "dataset", "out", "by"}
    defaults = {name: each.default for name, each in parameters.items() if name not in given}
    assert {name: told[name] for name in defaults if name in told} == {
        name: default for name, default in defaults.items() if name in told
    }


def test_a_plan_is_asked_for_by_parameters_of_convert() -> None:
    defaults = {name: each.default for name, each in inspect.signature(convert).parameters.items()}
    made = {
        field.name: field.default
        for field in (*fields(ImportOptions), *fields(PlanOptions))
        if field.name not in ("imports", "label", "rename")
    }
    assert MISSING not in made.values()
    assert made == {name: defaults[name] for name in OPTION_NAMES if name != "rename"}
    assert make_options(**{name: defaults[name] for name in OPTION_NAMES}) == make_options()
    own = set(inspect.signature(plan_conversion).parameters) - {"options"}
    assert own <= set(defaults)


def test_a_plan_takes_no_other_option() -> None:
    with pytest.raises(TypeError, match="colour"):
        make_options(colour="red")
