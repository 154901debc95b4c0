"""The tools that come with the app, and the registry that the model's calls go to.

Write your own here, as these are: a function with a docstring, whose parameters are
`Annotated[type, "description"]`.
"""

import ast
import math
import operator
import random
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from runtime.calls import CallError
from runtime.tools import Registry

registry = Registry()
register_tool = registry.register


def get_tools() -> list[dict[str, Any]]:
    """The descriptions of all tools, as they stand in the model's prompt."""
    return [tool.describe() for tool in registry]


def dispatch_tool(tool_name: str, tool_params: Mapping[str, Any]) -> str:
    """Call a tool; what is wrong with the call, or fails in it, is the result, for the model to read."""
    try:
        return registry[tool_name].call(tool_params)
    except CallError as error:
        return str(error)
    except Exception as error:  # a tool's own failure is a result, too
        return f"{tool_name} failed: {type(error).__name__}: {error}"


@register_tool
def random_number_generator(
    seed: Annotated[int, "The random seed used by the generator", True],
    range: Annotated[tuple[int, int], "The range of the generated number, its end excluded", True],
) -> int:
    """Generates a random number x, s.t. range[0] <= x < range[1]"""
    first, end = range
    if first >= end:
        raise ValueError("The second number of the range must be larger than the first.")
    return random.Random(seed).randrange(first, end)


@register_tool
def get_time(
    time_zone: Annotated[str, 'An IANA time zone, such as "Asia/Shanghai"'] = "UTC",
) -> str:
    """Get the current date and time in a time zone."""
    try:
        zone = ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"There is no time zone {time_zone!r}.") from None
    return datetime.now(zone).isoformat(timespec="seconds")


@register_tool
def calculate(
    expression: Annotated[str, "Arithmetic, such as (3 + 4) * 2 ** 0.5 or sqrt(2) * pi"],
) -> float | int:
    """Calculate the value of an arithmetic expression."""
    try:
        tree = ast.parse(expression.strip().replace("^", "**"), mode="eval")
        value: float | int = _value(tree.body)
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError("This is not an arithmetic expression.") from None
    return value


_OPERATORS: dict[type[ast.AST], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau}
_FUNCTIONS: dict[str, Any] = {
    **{name: getattr(math, name) for name in ("sqrt", "exp", "log", "log2", "log10", "sin", "cos", "tan")},
    **{name: getattr(math, name) for name in ("asin", "acos", "atan", "floor", "ceil", "degrees", "radians")},
    "abs": abs,
    "round": round,
}
_MAX_BITS = 10_000  # of a result; 9**9**9 would take all memory and time


def _value(node: ast.AST) -> Any:
    match node:
        case ast.Constant(int() | float() as value) if not isinstance(value, bool):
            return value
        case ast.Name(name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.BinOp(left, symbol, right) if type(symbol) in _OPERATORS:
            first, second = _value(left), _value(right)
            if isinstance(symbol, ast.Pow | ast.Mult):
                _check_size(symbol, first, second)
            return _real(_OPERATORS[type(symbol)](first, second))
        case ast.UnaryOp(symbol, operand) if type(symbol) in _OPERATORS:
            return _OPERATORS[type(symbol)](_value(operand))
        case ast.Call(ast.Name(name), arguments, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*map(_value, arguments))
        case _:
            raise ValueError("Only numbers, + - * / // % **, brackets and functions such as sqrt are known.")


def _check_size(symbol: ast.operator, first: Any, second: Any) -> None:
    if not (isinstance(first, int) and isinstance(second, int)):
        return
    bits = first.bit_length()
    bits = bits * second if isinstance(symbol, ast.Pow) else bits + second.bit_length()
    if bits > _MAX_BITS:
        raise ValueError("The result is too large.")


def _real(value: Any) -> Any:
    if isinstance(value, complex):
        raise ValueError("The result is not a real number.")
    return value
