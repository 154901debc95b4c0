"""The messages of a conversation: values, the prompts they make, and how they look.

Not the model's side: token ids are made in `chatglm3`. Streamlit is touched only
inside the methods that display.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

TOOL_PROMPT = "Answer the following questions as best as you can. You have access to the following tools:"

# How an answer ended: as the model wished, stopped by the user, cut at the
# output length or at the model's context, by a failure, or with the app itself.
Ending = Literal["complete", "stopped", "length", "context", "failed", "interrupted"]


class Role(Enum):
    """Who speaks. TOOL and INTERPRETER are the assistant calling for something."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    INTERPRETER = "interpreter"
    OBSERVATION = "observation"

    def __str__(self) -> str:
        """The special token of the role in ChatGLM3's format."""
        return f"<|{self.speaker}|>"

    @property
    def speaker(self) -> str:
        """The role's name in ChatGLM3's format."""
        return "assistant" if self in (Role.TOOL, Role.INTERPRETER) else self.value

    def get_message(self) -> "DeltaGenerator | None":
        """A chat message block of the page for this role; None for the system's, which is not shown."""
        import streamlit as st

        if self is Role.SYSTEM:
            return None
        avatars = {"user": ":material/person:", "assistant": ":material/smart_toy:"}
        avatar = avatars.get(self.speaker, ":material/build:")
        return st.chat_message(self.value, avatar=avatar)


@dataclass(frozen=True)
class Metrics:
    """What an answer took, for display."""

    prompt_tokens: int
    cached_tokens: int
    new_tokens: int
    first_token_seconds: float
    tokens_per_second: float


@dataclass(frozen=True)
class Request:
    """What the model was asked with, beside the history: enough to build its prompt again."""

    model: str
    system: str = ""
    tools: tuple[dict[str, Any], ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)  # of the sampling
    prompt_digest: str = ""  # of the prompt's token ids, to know whether it was built again exactly
    continued: int = 0  # characters of the message that were there already, when the model went on


@dataclass(frozen=True)
class Failure:
    """What went wrong: a sentence, and a key and values by which it can be told in other languages."""

    sentence: str
    key: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        return cls(str(error), getattr(error, "key", ""), getattr(error, "values", {}))


@dataclass(frozen=True)
class File:
    """A file or image that belongs to a message."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True)
class Conversation:
    """One message of a conversation (the original's name for it).

    `arguments` and `outputs` hold JSON values.
    """

    role: Role
    content: str
    tool: str | None = None  # the name of the tool that a TOOL message calls
    arguments: dict[str, Any] | None = None  # of that call, as they were understood
    outputs: tuple[dict[str, Any], ...] = ()  # of the code that ran, in nbformat's form
    files: tuple[File, ...] = ()
    ending: Ending = "complete"
    error: Failure | None = None  # when it ended as "failed"
    metrics: Metrics | None = None
    request: Request | None = None  # of an answer
    left_out: int = 0  # messages that the model no longer saw when it answered

    @property
    def metadata(self) -> str:
        """The header line after the role, as the model wrote it."""
        return "interpreter" if self.role is Role.INTERPRETER else self.tool or ""

    def __str__(self) -> str:
        """The message in ChatGLM3's format."""
        return f"{self.role}{self.metadata}\n{self.content}"

    def get_text(self) -> str:
        """The message as Markdown."""
        match self.role:
            case Role.TOOL:
                return f"Calling tool `{self.tool}`:\n\n{postprocess_text(self.content)}"
            case Role.OBSERVATION:
                return f"Observation:\n{fenced(self.content)}"
            case Role.USER:  # people break lines where they mean it
                return _outside_code(_hard_breaks, postprocess_text(self.content))
            case _:
                return postprocess_text(self.content)

    def show(self, placeholder: "DeltaGenerator | None" = None) -> None:
        """Draw the message on the page, in the placeholder or in a block of its own."""
        block = placeholder or self.role.get_message()
        if block is None:
            return
        block.markdown(self.get_text())
        for file in self.files:
            if file.media_type in _IMAGES:
                try:
                    block.image(file.data)
                except (OSError, ValueError):  # it is none
                    block.text(file.name)


def to_messages(
    system: str | None, tools: list[dict[str, Any]] | None, history: Sequence[Conversation]
) -> list[dict[str, Any]]:
    """The conversation as the model's tokenizer takes it.

    With tools the system prompt is ChatGLM3's own for them. Answers that
    failed before their first word are not part of the conversation.
    """
    first: dict[str, Any] = {"role": "system", "content": TOOL_PROMPT if tools else system or ""}
    if tools:
        first["tools"] = tools
    messages = [first] if first["content"] else []
    for message in history:
        if message.content or message.role is not Role.ASSISTANT:
            messages.append(
                {"role": message.role.speaker, "metadata": message.metadata, "content": message.content}
            )
    return messages


def preprocess_text(
    system: str | None, tools: list[dict[str, Any]] | None, history: Sequence[Conversation]
) -> str:
    """The prompt as text, for people to read: the model gets token ids, in which text is never a role."""
    prompt = f"{Role.SYSTEM}\n{TOOL_PROMPT if tools else system or ''}"
    if tools:
        prompt += "\n" + json.dumps(tools, indent=4, ensure_ascii=False)
    return prompt + "".join(map(str, history)) + f"{Role.ASSISTANT}\n"


_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")

# Display. Text of a model is hostile: it must not load images from elsewhere,
# which would tell their server, nor use Streamlit's own Markdown directives.

_CODE = re.compile(
    r"(?P<fence>^[ \t]*(?P<mark>`{3,}|~{3,})[^\n]*\n.*?(?:^[ \t]*(?P=mark)[`~]*[ \t]*$|\Z))"
    r"|(?P<span>(?P<ticks>`+)(?!`)(?:(?!\n[ \t]*\n).)+?(?<!`)(?P=ticks)(?!`))",
    re.MULTILINE | re.DOTALL,
)
_ROLE_TOKENS = re.compile(r"<\|(?:system|user|assistant|observation)\|>")
_DISPLAY_MATH = re.compile(r"\\\[(.+?)\\\]", re.DOTALL)
_INLINE_MATH = re.compile(r"\\\((.+?)\\\)", re.DOTALL)
_CURRENCY = re.compile(r"(?<![\\$\w])\$(?=\d[\d.,]*(?:\s|[.,;:!?)\]%]|$))", re.MULTILINE)
_IMAGE = re.compile(r"!(?=\[)")
_DIRECTIVE = re.compile(r":(?=[a-z-]+\[|material/|[a-z+-][a-z0-9_+-]*:)")


def postprocess_text(text: str) -> str:
    """A model's text as Markdown for Streamlit; what is inside code stays as it is.

    LaTeX's `\\(…\\)` and `\\[…\\]` become `$…$` and `$$…$$`, role tokens go, images
    become links, and amounts such as $5 and Streamlit's directives stay text.
    """
    return _outside_code(_display_markup, text).strip()


def _outside_code(change: Callable[[str], str], text: str) -> str:
    parts, end = [], 0
    for code in _CODE.finditer(text):
        parts += [change(text[end : code.start()]), code.group()]
        end = code.end()
    return "".join([*parts, change(text[end:])])


def _display_markup(text: str) -> str:
    text = _ROLE_TOKENS.sub("", text)
    text = _CURRENCY.sub(r"\\$", text)
    text = _DISPLAY_MATH.sub(r"$$\1$$", text)
    text = _INLINE_MATH.sub(lambda math: f"${math.group(1).strip()}$", text)
    text = _IMAGE.sub(r"\\!", text)
    return _DIRECTIVE.sub(r"\\:", text)


def _hard_breaks(text: str) -> str:
    return re.sub(r"(?<=[^\n])\n(?=[^\n])", "  \n", text)


def fenced(text: str) -> str:
    """The text as a Markdown code block, whatever fences are in it."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
