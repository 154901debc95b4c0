"""Tools: plain Python functions that the model may call, described and validated by their signatures.

    @register_tool
    def get_weather(city_name: Annotated[str, "The name of the city", True]) -> str:
        \"\"\"Get the current weather for `city_name`.\"\"\"

Name, docstring and parameters become the description in the form that ChatGLM3 was
trained on (`name`, `description`, `parameters` as JSON schema). Arguments are checked
by pydantic against the function's own types before it is called.
"""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, Required, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from typing_extensions import TypedDict

from runtime.calls import CallError

Function = TypeVar("Function", bound=Callable[..., Any])


class RegistrationError(Exception):
    """A function cannot be a tool; the sentence tells its author why."""


@dataclass(frozen=True)
class Tool:
    """A function, how the model is told of it, and how its arguments are read."""

    name: str
    description: str
    parameters: dict[str, Any]  # JSON schema
    function: Callable[..., Any]
    _arguments: TypeAdapter[dict[str, Any]]

    @classmethod
    def of(cls, function: Callable[..., Any]) -> "Tool":
        """The tool that a function is; raises RegistrationError for a signature that is none."""
        name = getattr(function, "__name__", "")
        description = inspect.getdoc(function)
        if not name.isidentifier() or name == "interpreter":  # the header of code
            raise RegistrationError(f"A tool cannot have the name {name!r}.")
        if not description:
            raise RegistrationError(f"The tool {name} needs a docstring: the model reads it.")
        arguments = _arguments(name, function)
        try:
            schema = _schema(arguments)
        except PydanticUserError as error:
            raise _undescribable(name, error) from error
        return cls(name, description, schema, function, arguments)

    def describe(self) -> dict[str, Any]:
        """The description in the model's prompt."""
        return {"name": self.name, "description": self.description, "parameters": self.parameters}

    def validate(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the function takes them; raises CallError with all that is wrong."""
        try:
            return self._arguments.validate_python(dict(arguments))
        except ValidationError as error:
            raise CallError(f"{self.name} cannot be called like that: {_faults(error)}") from None

    def call(self, arguments: Mapping[str, Any]) -> str:
        """The function's result for valid arguments, as text: a string as it is, else JSON."""
        result = self.function(**self.validate(arguments))
        return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)


class Registry:
    """Tools by their names."""

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {}

    def register(self, function: Function) -> Function:
        """Make a function a tool, and return it unchanged; raises RegistrationError."""
        tool = Tool.of(function)
        if tool.name in self._tools:
            raise RegistrationError(f"There is a tool with the name {tool.name} already.")
        self._tools[tool.name] = tool
        return function

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __getitem__(self, name: str) -> Tool:
        """The tool with that name; raises CallError if there is none."""
        if name not in self._tools:
            known = ", ".join(self._tools) or "none"
            raise CallError(f"There is no tool with the name {name}. The tools are: {known}.")
        return self._tools[name]


def _arguments(name: str, function: Callable[..., Any]) -> TypeAdapter[dict[str, Any]]:
    """What reads the arguments: a dictionary of the function's parameters, and of no others."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError, SyntaxError) as error:
        raise RegistrationError(f"The types of the tool {name} cannot be read: {error}.") from error
    fields = {
        parameter.name: _field(name, parameter, hints.get(parameter.name))
        for parameter in inspect.signature(function).parameters.values()
    }
    arguments = TypedDict("arguments", fields)  # type: ignore[misc]
    # "3" is good for an int, and 3 for a text; what would lose something is not taken.
    arguments.__pydantic_config__ = ConfigDict(extra="forbid", coerce_numbers_to_str=True)  # type: ignore[attr-defined]
    try:
        return TypeAdapter(arguments)  # type: ignore[arg-type]
    except PydanticUserError as error:
        raise _undescribable(name, error) from error


def _undescribable(name: str, error: PydanticUserError) -> RegistrationError:
    reason = str(error).splitlines()[0]
    return RegistrationError(f"The tool {name} has a type that cannot be described: {reason}")


def _field(name: str, parameter: inspect.Parameter, hint: Any) -> Any:
    where = f"The parameter {parameter.name} of the tool {name}"
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise RegistrationError(f"{where} cannot be given by its name.")
    if get_origin(hint) is not Annotated:
        raise RegistrationError(f'{where} must be annotated, as Annotated[type, "description"].')
    type_, *metadata = get_args(hint)
    match metadata:
        case [str(description)]:
            required = parameter.default is parameter.empty
        case [str(description), bool(required)]:
            pass
        case _:
            raise RegistrationError(
                f'{where} must be annotated as Annotated[type, "description"] or '
                'Annotated[type, "description", required].'
            )
    if not required and parameter.default is parameter.empty:
        raise RegistrationError(f"{where} is not required, so it needs a default value.")
    described: Any = Annotated[type_, Field(description=description)]
    return Required[described] if required else NotRequired[described]


def _schema(arguments: TypeAdapter[dict[str, Any]]) -> dict[str, Any]:
    schema = arguments.json_schema()
    properties = {name: _without_title(each) for name, each in schema.get("properties", {}).items()}
    described = {"type": "object", "properties": properties, "required": schema.get("required", [])}
    return described | ({"$defs": schema["$defs"]} if "$defs" in schema else {})


def _without_title(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "title"}


def _faults(error: ValidationError) -> str:
    faults = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False)[:5]:
        where = ".".join(map(str, fault["loc"]))
        what = {"missing": "it is missing", "extra_forbidden": "there is no such parameter"}
        faults.append(f"{where}: {what.get(fault['type'], fault['msg'])}")
    return "; ".join(faults) + "."
