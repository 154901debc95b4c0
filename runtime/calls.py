"""Tool calls as the model writes them: their text to arguments. Parsed, never run.

A call is ChatGLM3's, one Python call of keyword arguments that are literals,

    ```python
    tool_call(city_name='北京', days=3)
    ```

or a JSON object in such a fence. What is not exactly that is a CallError, whose
sentence is for the model. Arguments are JSON values; whether they suit the tool is
not decided here.
"""

import ast
import json
import math
import re
import warnings
from typing import Any

# Beyond these a call is no call; they also keep Python's own parsers within their limits.
MAX_CHARACTERS = 100_000
MAX_DEPTH = 50

_FENCE = re.compile(r"^[ \t]*```[ \t]*(\w*)[ \t]*\n(.*?)^[ \t]*```[ \t]*$", re.MULTILINE | re.DOTALL)

_EXAMPLE = "Write one call in a code block, like this:\n```python\ntool_call(name='value')\n```"


class CallError(Exception):
    """The model's call cannot be understood, or does not suit the tool; the sentence tells it why."""


def parse_call(content: str) -> dict[str, Any]:
    """The arguments of the call that a message's content is; raises CallError."""
    if len(content) > MAX_CHARACTERS:
        raise CallError(f"The call is longer than {MAX_CHARACTERS:,} characters.")
    fences = _FENCE.findall(content)
    if len(fences) != 1:
        what = "no code block" if not fences else f"{len(fences)} code blocks"
        raise CallError(f"The call has {what}. {_EXAMPLE}")
    language, code = fences[0]
    if language.lower() == "json" or code.lstrip().startswith("{"):
        return _read_json(code)
    return _read_python(code.strip())


def _read_json(code: str) -> dict[str, Any]:
    try:
        arguments = json.loads(code, object_pairs_hook=_without_repetition, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CallError(f"The arguments are not valid JSON: {_reason(error)}.") from None
    if not isinstance(arguments, dict):
        raise CallError("The arguments must be a JSON object, with the parameters' names as keys.")
    return {name: _checked(value) for name, value in arguments.items()}


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key is repeated")
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def _read_python(code: str) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in strings
            statements = ast.parse(code, "<tool call>").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CallError(f"The call is not valid Python: {_reason(error)}. {_EXAMPLE}") from None
    if len(statements) != 1:
        raise CallError(f"There must be exactly one call, and there are {len(statements)} statements.")
    match statements[0]:
        case ast.Expr(ast.Call(ast.Name("tool_call"), args=[], keywords=keywords)):
            if len({keyword.arg for keyword in keywords}) < len(keywords):
                raise CallError("An argument is given twice.")
            return {_name(keyword): _literal(keyword.value) for keyword in keywords}
        case ast.Expr(ast.Call(ast.Name("tool_call"))):
            raise CallError("Give every argument by its name: tool_call(name='value').")
        case _:
            raise CallError(f"The code block must be one call of tool_call and nothing else. {_EXAMPLE}")


def _name(keyword: ast.keyword) -> str:
    if keyword.arg is None:
        raise CallError("Give every argument by its name; ** is not allowed.")
    return keyword.arg


def _literal(node: ast.expr, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise CallError(f"The arguments are nested more than {MAX_DEPTH} deep.")
    match node:
        case ast.Constant(None | bool() | int() | float() | str() as value):
            return _checked(value)
        case ast.UnaryOp(ast.USub() | ast.UAdd() as sign, ast.Constant(int() | float() as number)) if not (
            isinstance(number, bool)
        ):
            return _checked(-number if isinstance(sign, ast.USub) else number)
        case ast.List(elements) | ast.Tuple(elements):
            return [_literal(element, depth + 1) for element in elements]
        case ast.Dict(keys, values):
            return {_key(key): _literal(each, depth + 1) for key, each in zip(keys, values, strict=True)}
        case _:
            raise CallError(
                "An argument must be a plain value: a text, number, True, False, None, list or dict."
            )


def _key(node: ast.expr | None) -> str:
    match node:
        case ast.Constant(str(key)):
            return key
        case _:
            raise CallError("The keys of a dict must be texts.")


def _checked(value: Any, depth: int = 0) -> Any:
    """The value, if it is one that JSON holds, and not too deep."""
    if depth > MAX_DEPTH:
        raise CallError(f"The arguments are nested more than {MAX_DEPTH} deep.")
    match value:
        case float() if not math.isfinite(value):
            raise CallError("A number is too large.")
        case str():
            return value.encode(errors="replace").decode()  # without lone surrogates
        case list():
            return [_checked(each, depth + 1) for each in value]
        case dict():
            return {_checked(key): _checked(each, depth + 1) for key, each in value.items()}
        case _:
            return value


def _reason(error: BaseException) -> str:
    """The parser's reason, without the text that it quotes."""
    reason = getattr(error, "msg", None) or str(error) or type(error).__name__
    return reason.splitlines()[0].rstrip(".")[:200]
