"""The tools that come with the app."""

import pytest

from tool_registry import dispatch_tool, get_tools


def test_the_tools_are_described_as_the_model_was_trained() -> None:
    for description in get_tools():
        assert list(description) == ["name", "description", "parameters"]
        assert description["parameters"]["type"] == "object"


def test_a_random_number_is_in_its_half_open_range_and_follows_from_its_seed() -> None:
    numbers = [dispatch_tool("random_number_generator", {"seed": n, "range": [3, 5]}) for n in range(40)]
    assert set(numbers) == {"3", "4"}
    assert numbers[0] == dispatch_tool("random_number_generator", {"seed": 0, "range": [3, 5]})


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("(3 + 4) * 2", "14"),
        ("2 ** 0.5", "1.4142135623730951"),
        ("sqrt(9) - -1", "4.0"),
        ("7 // 2 % 2", "1"),
        ("2^10", "1024"),
        ("round(pi)", "3"),
    ],
)
def test_arithmetic_is_calculated(expression: str, value: str) -> None:
    assert dispatch_tool("calculate", {"expression": expression}) == value


@pytest.mark.parametrize(
    "expression",
    [
        "9 ** 9 ** 9",
        "1 / 0",
        "__import__('os')",
        "(-1) ** 0.5",
        "True",
        "'a' * 3",
        "",
        "(" * 10000,
        "10.0 ** 400",
        "*".join(["9" * 4000] * 3),
        "sqrt(-1)",
        "lambda: 1",
        "[1 for _ in (1,)]",
    ],
)
def test_what_is_no_arithmetic_is_refused_and_never_run(expression: str) -> None:
    assert dispatch_tool("calculate", {"expression": expression}).startswith("calculate failed: ")


def test_the_time_is_told_in_a_time_zone() -> None:
    assert dispatch_tool("get_time", {"time_zone": "Asia/Shanghai"}).endswith("+08:00")
    assert "There is no time zone" in dispatch_tool("get_time", {"time_zone": "../../etc/passwd"})


def test_a_call_that_does_not_suit_is_answered_and_not_raised() -> None:
    assert "no tool with the name" in dispatch_tool("get_shell", {})
    assert "seed: it is missing" in dispatch_tool("random_number_generator", {"range": [1, 2]})
