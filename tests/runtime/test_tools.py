"""Plain functions as tools: how they are described, and how their arguments are checked."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel

from runtime.calls import CallError
from runtime.tools import RegistrationError, Registry, Tool


class Unit(Enum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"


@dataclass
class Place:
    city: str
    country: str = "France"


class Point(BaseModel):
    x: int
    y: int


def every(
    text: Annotated[str, "a text", True],
    unit: Annotated[Unit, "an enumeration"],
    kind: Annotated[Literal["a", "b"], "a choice"],
    pair: Annotated[tuple[int, int], "two numbers"],
    place: Annotated[Place, "a dataclass"],
    point: Annotated[Point, "a model"],
    names: Annotated[list[str], "a list"] = [],  # noqa: B006
    table: Annotated[dict[str, int] | None, "a table", False] = None,
) -> Any:
    """Takes one of each."""
    return [text, unit.value, kind, pair, place.country, point.x, names, table]


GOOD = {
    "text": 3,
    "unit": "kelvin",
    "kind": "b",
    "pair": [1, "2"],
    "place": {"city": "Paris"},
    "point": {"x": 1, "y": 2.0},
}


def test_a_function_is_described_by_its_name_docstring_and_signature() -> None:
    description = Tool.of(every).describe()
    assert (description["name"], description["description"]) == ("every", "Takes one of each.")
    properties = description["parameters"]["properties"]
    assert properties["text"] == {"description": "a text", "type": "string"}
    assert properties["kind"]["enum"] == ["a", "b"]
    assert properties["pair"]["minItems"] == properties["pair"]["maxItems"] == 2
    assert description["parameters"]["required"] == ["text", "unit", "kind", "pair", "place", "point"]
    assert set(description["parameters"]["$defs"]) == {"Unit", "Place", "Point"}


def test_arguments_become_the_functions_own_types_where_nothing_is_lost() -> None:
    assert Tool.of(every).call(GOOD) == '["3", "kelvin", "b", [1, 2], "France", 1, [], null]'


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"pair": [1, 2.5]}, "pair.1: .*integer"),
        ({"pair": [1]}, "pair.1: it is missing"),
        ({"kind": "c"}, "kind: .*'a' or 'b'"),
        ({"unit": "yard"}, "unit"),
        ({"place": {}}, "place.city"),
        ({"nobody": 1}, "nobody: there is no such parameter"),
        ({"text": None}, "text: .*string"),
    ],
)
def test_arguments_that_do_not_suit_are_refused_by_name(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        Tool.of(every).validate(GOOD | wrong)


def test_a_missing_argument_is_told() -> None:
    with pytest.raises(CallError, match="text: it is missing"):
        Tool.of(every).validate({})


def no_docstring(a: Annotated[int, "a"]) -> None: ...
def not_annotated(a: int) -> None:
    """Doc."""


def no_description(a: Annotated[int, 5]) -> None:
    """Doc."""


def optional_without_default(a: Annotated[int, "a", False]) -> None:
    """Doc."""


def any_number(*a: Annotated[int, "a"]) -> None:
    """Doc."""


def positional(a: Annotated[int, "a"], /) -> None:
    """Doc."""


def unknown_type(a: Annotated["Nowhere", "a"]) -> None:  # type: ignore[name-defined] # noqa: F821
    """Doc."""


def undescribable(a: Annotated[Callable[[], None], "a"]) -> None:
    """Doc."""


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (no_docstring, "needs a docstring"),
        (not_annotated, "must be annotated"),
        (no_description, "must be annotated"),
        (optional_without_default, "needs a default value"),
        (any_number, "cannot be given by its name"),
        (positional, "cannot be given by its name"),
        (unknown_type, "cannot be read"),
        (undescribable, "cannot be described"),
        (lambda: None, "cannot have the name"),
    ],
)
def test_a_function_that_is_no_tool_is_refused_at_registration(function: Any, reason: str) -> None:
    with pytest.raises(RegistrationError, match=reason):
        Registry().register(function)


def test_registering_returns_the_function_itself_and_takes_a_name_once() -> None:
    registry = Registry()
    assert registry.register(every) is every
    with pytest.raises(RegistrationError, match="already"):
        registry.register(every)
    assert [tool.name for tool in registry] == ["every"]


def test_an_unknown_tool_is_answered_with_the_known_ones() -> None:
    registry = Registry()
    registry.register(every)
    with pytest.raises(CallError, match=r"no tool with the name nothing.*every"):
        registry["nothing"]
