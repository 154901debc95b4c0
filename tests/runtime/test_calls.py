"""The model's calls are parsed, whatever they look like, and never run."""

import json
from keyword import iskeyword
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.calls import MAX_CHARACTERS, CallError, parse_call


def fenced(code: str, language: str = "python") -> str:
    return f"```{language}\n{code}\n```"


NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: not iskeyword(name))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
SCALARS |= st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
KEYS = st.text("ab'\"\\`\n", max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=4,
)
ARGUMENTS = st.dictionaries(NAMES, VALUES, max_size=3)
NOISE = ["", "(", ")", "'", "f'", "**", "=", "\\", "\n", "```", "__import__('os')", "\0"]


def as_python(arguments: dict[str, Any]) -> str:
    return "tool_call(" + ", ".join(f"{name}={value!r}" for name, value in arguments.items()) + ")"


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("tool_call(city_name='北京')", {"city_name": "北京"}),
        ("tool_call()", {}),
        ("tool_call(a=-1, b=+2.5, c=True, d=None)", {"a": -1, "b": 2.5, "c": True, "d": None}),
        ("tool_call(range=(1, 10), x={'a': [1, {'b': ()}]})", {"range": [1, 10], "x": {"a": [1, {"b": []}]}}),
        ("tool_call(\n    a='one'\n    ' two',\n)  # both", {"a": "one two"}),
        (r"tool_call(pattern='\d+')", {"pattern": r"\d+"}),
    ],
)
def test_a_call_of_literals_is_its_arguments(code: str, arguments: dict[str, Any]) -> None:
    assert parse_call(fenced(code)) == arguments


@pytest.mark.parametrize("language", ["json", "", "JSON"])
def test_a_json_object_is_its_arguments(language: str) -> None:
    assert parse_call(fenced('{"city": "北京", "days": [1, null]}', language)) == {
        "city": "北京",
        "days": [1, None],
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("tool_call(a=1)", "no code block"),
        (fenced("tool_call(a=1)") + "\n" + fenced("tool_call(a=2)"), "2 code blocks"),
        (fenced("tool_call(a=1)\ntool_call(a=2)"), "exactly one call"),
        (fenced("tool_call('北京')"), "by its name"),
        (fenced("tool_call(*[1])"), "by its name"),
        (fenced("tool_call(**{'a': 1})"), r"\*\* is not allowed"),
        (fenced("tool_call(a=1, a=2)"), "given twice"),
        (fenced("tool_call(a="), "not valid Python"),
        (fenced("print(1)"), "one call of tool_call"),
        (fenced("x = tool_call(a=1)"), "one call of tool_call"),
        (fenced("os.tool_call(a=1)"), "one call of tool_call"),
        (fenced("tool_call(a=f'{1}')"), "plain value"),
        (fenced("tool_call(a=__import__('os'))"), "plain value"),
        (fenced("tool_call(a=1+1)"), "plain value"),
        (fenced("tool_call(a=b)"), "plain value"),
        (fenced("tool_call(a=b'x')"), "plain value"),
        (fenced("tool_call(a=2j)"), "plain value"),
        (fenced("tool_call(a={1})"), "plain value"),
        (fenced("tool_call(a={1: 2})"), "must be texts"),
        (fenced("tool_call(a={**{}})"), "must be texts"),
        (fenced("tool_call(a=1e999)"), "too large"),
        (fenced(f"tool_call(a={'[' * 60}{']' * 60})"), "60|nested"),
        (fenced(f"tool_call(a={'(' * 5000}"), "not valid Python"),
        (fenced("tool_call(a='\0')"), "not valid Python"),
        (fenced('{"a": NaN}', "json"), "NaN is no number"),
        (fenced('{"a": 1e999}', "json"), "too large"),
        (fenced('{"a": 1, "a": 2}', "json"), "repeated"),
        (fenced("[1]", "json"), "JSON object"),
        (fenced("{" * 10, "json"), "not valid JSON"),
        (fenced("[" * 100_000, "json")[:90_000] + "\n```", "not valid JSON"),
        (fenced("x" * MAX_CHARACTERS), "longer than 100,000"),
    ],
)
def test_what_is_no_call_is_refused_with_the_reason(content: str, reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        parse_call(content)


def read(content: str) -> dict[str, Any] | str:
    """The arguments, or the reason why there are none."""
    try:
        return parse_call(content)
    except CallError as error:
        return str(error)


@settings(max_examples=5000)
@given(ARGUMENTS)
def test_every_call_is_read_back_as_it_was_written(arguments: dict[str, Any]) -> None:
    assert read(fenced(json.dumps(arguments), "json")) == arguments
    assert read(fenced(as_python(arguments))) == arguments


@settings(max_examples=10_000)
@given(ARGUMENTS, st.sampled_from(NOISE), st.floats(0, 1), st.integers(0, 5))
def test_a_mutated_call_is_read_or_refused_and_nothing_else(
    arguments: dict[str, Any], noise: str, place: float, length: int
) -> None:
    content = fenced(as_python(arguments))
    start = int(place * len(content))
    outcome = read(content[:start] + noise + content[start + length :])
    assert outcome or outcome == {}
    json.dumps(outcome, allow_nan=False)
