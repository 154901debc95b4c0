"""Conversations as files: Markdown to read, JSON to keep and bring back, notebooks to run.

Strings and bytes in and out; no file is opened here. What is brought back may be
anything: what is not exactly a conversation is refused, in a sentence. Nor is what
people, files and models wrote trusted to be encodable, or to close its fences.
"""

import json
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from math import ceil
from typing import Annotated, Any, Literal

import nbformat
import pydantic_core
from nbformat import v4
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    FailFast,
    Field,
    ValidationError,
    field_validator,
)
from pydantic_core import PydanticCustomError

from conversation import Conversation, Ending, Role, fenced
from runtime import records
from runtime.errors import TransferError
from runtime.store import MAX_TITLE, Heading, Stored
from runtime.tree import Tree, now

FORMAT = "chatglm3-app conversation"
VERSION = 1

MAX_BYTES = 50 * 2**20
MAX_MESSAGES = 100_000

# Values in one message, but for what is deep in it: pydantic gathers all faults before it
# tells the first, and takes half a kilobyte of memory for each.
MAX_PARTS = 100_000

MAX_NUMBER = 2**64  # no count or seed is larger

MAX_FILE_NAME = 80  # characters


def to_json(stored: Stored) -> str:
    """The whole conversation, all branches of it, as `from_json` reads it."""
    export: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "title": stored.heading.title,
        "mode": stored.heading.mode,
        "head": stored.tree.head,
        "settings": stored.settings,
        "messages": [_Message.of(node) for node in stored.tree.nodes],
    }
    return records.to_json(_Export.model_construct(**export), indent=2)


def from_json(data: bytes, *, max_bytes: int = MAX_BYTES) -> Stored:
    """The conversation in a file, as a new one; raises TransferError for what is not from `to_json`."""
    export = _read(data, max_bytes)
    for number, message in enumerate(export.messages):
        if message.parent is not None and not 0 <= message.parent < number:
            raise _malformed(f"messages.{number}.parent", "It should be the number of an earlier message")
    if export.head is not None and not 0 <= export.head < len(export.messages):
        raise _malformed("head", "It should be the number of a message")
    title = _line(export.title)[:MAX_TITLE]
    return Stored(
        Heading(secrets.token_urlsafe(12), export.mode, title, pinned=False, updated=now()),
        Tree(tuple(message.node() for message in export.messages), export.head),
        export.settings,
    )


def to_markdown(title: str, messages: Sequence[Conversation]) -> str:
    """The messages for people to read."""
    return _encodable("\n\n".join([f"# {_escaped(title)}", *map(_section, messages)]) + "\n")


def to_notebook(title: str, messages: Sequence[Conversation]) -> str:
    """The messages as a Jupyter notebook, in which the code can be run; the same each time."""
    cells = [v4.new_markdown_cell(f"# {_escaped(title)}")]
    previous = None
    for message in messages:
        if message.role is Role.INTERPRETER:
            _, blocks, _ = _fences(message.content)
            cells.append(v4.new_code_cell(blocks[-1] if blocks else message.content))
        elif message.role is Role.OBSERVATION and previous is Role.INTERPRETER:
            cells[-1].outputs = _outputs(message)
        else:
            cells.append(v4.new_markdown_cell(_section(message)))
        previous = message.role
    for number, cell in enumerate(cells, 1):
        cell.id = f"cell-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    return _encodable(nbformat.writes(notebook))


def file_name(title: str, suffix: str) -> str:
    """A name for the conversation's file, with a suffix such as ".md", for any system."""
    name = _line(_UNPRINTED.sub("", _RESERVED.sub(" ", title))).strip(" .-")
    name = _DEVICE.sub(r"_\1", name)[: MAX_FILE_NAME - len(suffix)]
    name = name.encode()[: 255 - len(suffix)].decode(errors="ignore")  # file systems count bytes
    return (name.rstrip(" .") or "conversation") + suffix


# JSON


def _scalar(value: Any) -> Any:
    if isinstance(value, dict | list) or (isinstance(value, int) and abs(value) > MAX_NUMBER):
        raise PydanticCustomError(
            "scalar", "Input should be a text, a number up to 2^64, true, false or null"
        )
    return value


class _Message(records.Record):
    # Any time zone has these times.
    created: Annotated[
        AwareDatetime, Field(ge=datetime(1970, 1, 2, tzinfo=UTC), lt=datetime(9999, 1, 1, tzinfo=UTC))
    ]

    @field_validator("message")
    @classmethod
    def _is_one_of_a_conversation(cls, message: Conversation) -> Conversation:
        if message.role is Role.SYSTEM:  # the page would not show what the model is told
            raise PydanticCustomError("role", "A system prompt is not a message")
        counts = [message.left_out, message.request.continued if message.request else 0]
        counts += vars(message.metrics).values() if message.metrics else ()
        if not all(0 <= count <= MAX_NUMBER for count in counts):
            raise PydanticCustomError("count", "It has a number that is out of range")
        return message


class _Export(BaseModel):
    model_config = records.Record.model_config

    format: Literal["chatglm3-app conversation"]
    version: Literal[1]
    title: str
    mode: Literal["chat", "tool", "code"]
    head: int | None
    settings: dict[str, Annotated[Any, AfterValidator(_scalar)]]
    messages: Annotated[list[_Message], FailFast()]


def _read(data: bytes, max_bytes: int) -> _Export:
    if len(data) > max_bytes:
        size, limit = ceil(len(data) * 10 / 2**20) / 10, max_bytes / 2**20
        sentence = f"The file has {size:g} MB; at most {limit:g} MB can be read."
        raise TransferError(sentence, "file_too_large", size=size, limit=limit)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        sentence = "The file is not a conversation of this app: it is not text in UTF-8."
        raise TransferError(sentence, "file_not_utf8") from None
    try:
        value = pydantic_core.from_json(text, allow_inf_nan=False)
        json.dumps(value, ensure_ascii=False, allow_nan=False)  # 1e999 has become infinity
    except ValueError as error:
        sentence = f"The file is not a conversation of this app: it is not JSON ({error})."
        raise TransferError(sentence, "file_not_json", reason=str(error)) from None
    _check(value)
    try:
        return _Export.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise _malformed(".".join(map(str, first["loc"])), first["msg"]) from None


def _check(value: Any) -> None:
    """Raises TransferError for JSON of another kind, or of a size at which its faults could not be told."""
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise TransferError("The file is JSON, but not a conversation of this app.", "file_foreign")
    if isinstance(value.get("version"), int) and value["version"] > VERSION:
        sentence = "The file was written by a newer version of this app; update the app to read it."
        raise TransferError(sentence, "file_newer")
    messages = value.get("messages")
    messages = messages if isinstance(messages, list) else []
    if len(messages) > MAX_MESSAGES:
        sentence = f"The file has {len(messages):,} messages; at most {MAX_MESSAGES:,} can be read."
        raise TransferError(sentence, "file_too_long", count=len(messages), limit=MAX_MESSAGES)
    for number, part in enumerate([{**value, "messages": None}, *messages]):
        if _size(part, depth=3) > MAX_PARTS:
            raise _malformed(f"messages.{number - 1}" if number else "file", "It has too many parts")


def _size(value: Any, depth: int) -> int:
    """How many values are in this one, itself included, to a depth."""
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not depth or len(values) > MAX_PARTS:
        return 1 + len(values)
    return 1 + sum(_size(each, depth - 1) for each in values)


def _malformed(where: str, what: str) -> TransferError:
    where = re.sub(r"[^\w.-]", "?", where)[:100]  # it may have names from the file
    sentence = f"The conversation in the file is damaged at {where}: {what}."
    return TransferError(sentence, "file_malformed", where=where, what=what)


# Markdown

_SPEAKERS = {
    Role.SYSTEM: "System",
    Role.USER: "User",
    Role.ASSISTANT: "Assistant",
    Role.INTERPRETER: "Code",
    Role.OBSERVATION: "Result",
}

_ENDINGS: dict[Ending, str] = {
    "stopped": "Stopped by the user.",
    "length": "Cut off at the output length.",
    "context": "Cut off where the model's context was full.",
    "interrupted": "Cut off when the app ended.",
}


def _section(message: Conversation) -> str:
    """A message under its speaker's name."""
    speaker = _SPEAKERS.get(message.role) or f"Tool call {_span(message.tool or '')}"
    content = message.content
    prose, blocks, open_mark = _fences(content)
    match message.role:
        case Role.OBSERVATION:
            content = fenced(content)
        case Role.TOOL | Role.INTERPRETER:  # mostly a fence already, and nothing else
            content = fenced(blocks[0] if len(blocks) == 1 and not prose.strip() else content)
        case _ if open_mark:
            content += f"\n{open_mark}"
    parts = [f"**{speaker}**", content]
    if message.files:
        parts.append("Files: " + ", ".join(_span(file.name) for file in message.files))
    if message.ending == "failed":
        parts.append(f"*Failed: {_escaped(message.error.sentence)}*" if message.error else "*Failed.*")
    elif message.ending in _ENDINGS:
        parts.append(f"*{_ENDINGS[message.ending]}*")
    return "\n\n".join(filter(None, parts))


def _fences(text: str) -> tuple[str, list[str], str]:
    """What is outside of the Markdown's fences, what is in each, and how to close the last, if it is open.

    As in https://spec.commonmark.org/0.31.2/#fenced-code-blocks.
    """
    prose: list[str] = []
    blocks: list[list[str]] = []
    indent = mark = ""
    for line in re.split(r"\r\n?|\n", text):
        if mark and re.fullmatch(rf" {{0,3}}{mark}{mark[0]}*[ \t]*", line):
            mark = ""
        elif mark:
            blocks[-1].append(re.sub(rf"^ {{0,{len(indent)}}}", "", line))
        elif opening := _FENCE.match(line):
            indent, mark = opening.groups()
            blocks.append([])
        else:
            prose.append(line)
    return "\n".join(prose), ["\n".join(block) for block in blocks], mark


_FENCE = re.compile(r"( {0,3})(`{3,}(?=[^`]*$)|~{3,})")
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")


def _line(text: str) -> str:
    return " ".join(text.split())


def _escaped(text: str) -> str:
    """The text as one line of Markdown in which nothing is markup."""
    return _MARKUP.sub(r"\\\1", _line(text))


def _span(name: str) -> str:
    return f"`{_line(name).replace('`', chr(39)) or '?'}`"


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()


# Notebooks


def _outputs(observation: Conversation) -> list[nbformat.NotebookNode]:
    """What the code put out, as a code cell holds it; what a notebook cannot hold, as text."""
    if not observation.outputs:
        return [v4.new_output("stream", text=observation.content)]
    outputs = []
    for output in map(nbformat.from_dict, observation.outputs):
        try:
            nbformat.validate(output, ref="output", version=4, version_minor=5)
        except nbformat.ValidationError:
            output = v4.new_output("stream", text=json.dumps(output, ensure_ascii=False))
        outputs.append(output)
    return outputs


# File names

_RESERVED = re.compile(r'[<>:"/\\|?*]')
# Control characters, those that turn the direction of writing, and lone surrogates.
_UNPRINTED = re.compile(r"[\0-\x08\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_DEVICE = re.compile(r"^((?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$))", re.IGNORECASE)  # on Windows
