"""Messages to prompt tokens: what every tokenizer of this package shares.

A message is a dictionary in the form of ChatGLM3's history:

    {"role": "system" | "user" | "assistant" | "observation",
     "content": str,
     "metadata": str,         # assistant only: "", a tool's name, or "interpreter"
     "tools": list[dict]}     # system only: appended to the content as JSON

Format: ChatGLM3's PROMPT.md. Special tokens are placed by their ids; text is
only ever encoded as text, so no message can forge a role.
"""

import hashlib
import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from chatglm3.decoder import IncrementalDecoder
from chatglm3.errors import PromptTooLongError

Message = Mapping[str, Any]

ROLES = ("system", "user", "assistant", "observation")

# How much of the room is used again after turns had to be left out. Leaving out
# just enough would move the start of the prompt, and so void the KV cache, on
# every turn from then on.
ROOM_KEPT_AFTER_OVERFLOW = 0.75


class ChatTokenizer(Protocol):
    """What generation asks of a tokenizer."""

    default_system_prompt: str

    @property
    def stop_token_ids(self) -> frozenset[int]: ...
    @property
    def special_token_ids(self) -> frozenset[int]: ...
    @property
    def assistant_token_id(self) -> int: ...
    def encode(self, text: str) -> list[int]: ...
    def decode(self, token_ids: Sequence[int]) -> str: ...
    def incremental_decoder(self) -> IncrementalDecoder: ...
    def prompt_start(self) -> list[int]: ...
    def answer_start(self) -> list[int]: ...
    def message_end(self) -> list[int]: ...
    def encode_message(self, role: str, metadata: str, content: str) -> Sequence[int]: ...


@dataclass(frozen=True)
class Prompt:
    """The tokens that the model reads, and how many messages did not fit."""

    token_ids: list[int]
    left_out: int = 0

    @property
    def digest(self) -> str:
        """Tells whether two prompts are the same: the start of the ids' SHA-256."""
        return hashlib.sha256(array("I", self.token_ids).tobytes()).hexdigest()[:16]


def without_surrogates(text: str) -> str:
    """The text with lone surrogates, which no encoding can carry, replaced by "?"."""
    return text.encode(errors="replace").decode()


def message_content(message: Message) -> str:
    """The message's text as the model sees it, a system message's tools included."""
    content = str(message.get("content") or "")
    if message["role"] == "system" and message.get("tools"):
        content += "\n" + json.dumps(message["tools"], indent=4, ensure_ascii=False)
    return content


def encode_message(tokenizer: ChatTokenizer, message: Message) -> Sequence[int]:
    """One message's header and content.

    Raises ValueError when the role is not one of ROLES.
    """
    role = message["role"]
    if role not in ROLES:
        raise ValueError(f"A message has the role {role!r}; it must be one of {', '.join(ROLES)}.")
    return tokenizer.encode_message(role, str(message.get("metadata") or ""), message_content(message))


def encode_conversation(tokenizer: ChatTokenizer, messages: Sequence[Message]) -> list[int]:
    """The whole conversation, up to where the model's answer begins."""
    token_ids = tokenizer.prompt_start()
    for message in messages:
        token_ids.extend(encode_message(tokenizer, message))
    return token_ids + tokenizer.answer_start()


def _encode_to_go_on(tokenizer: ChatTokenizer, messages: Sequence[Message]) -> list[int]:
    """The whole conversation, its last message, the assistant's, left open."""
    end = len(tokenizer.answer_start()) + len(tokenizer.message_end())
    return encode_conversation(tokenizer, messages)[:-end]


def build_prompt(
    tokenizer: ChatTokenizer, messages: Sequence[Message], limit: int, go_on: bool = False
) -> Prompt:
    """The conversation in at most `limit` tokens, up to where the model's answer begins.

    With `go_on` the last message is the assistant's, which it goes on with.

    A leading system message always stays, and so does the last turn (from its
    question on). Of the others the oldest are left out, in whole turns. Which
    ones depends only on the turns up to here, so that the prompts of successive
    turns share a prefix for as long as possible.

    Raises PromptTooLongError when what must stay exceeds `limit`.
    """
    system = list(messages[:1]) if messages and messages[0]["role"] == "system" else []
    turns = _split_into_turns(messages[len(system) :])
    sizes = [sum(len(encode_message(tokenizer, message)) for message in turn) for turn in turns]
    room = limit - len(encode_conversation(tokenizer, system))
    last = sizes[-1] if sizes else 0
    if last > room:
        raise PromptTooLongError(
            f"This message is too long: with its system prompt it takes {limit - room + last:,} tokens, "
            f"and the model can take {limit:,} here. Shorten it, or lower the output length.",
            key="message_too_long",
            tokens=limit - room + last,
            limit=limit,
        )
    first = _first_turn_kept(sizes, room)
    kept = [message for turn in turns[first:] for message in turn]
    left_out = sum(len(turn) for turn in turns[:first])
    encode = _encode_to_go_on if go_on else encode_conversation
    return Prompt(encode(tokenizer, system + kept), left_out)


def _split_into_turns(messages: Sequence[Message]) -> list[list[Message]]:
    turns: list[list[Message]] = []
    for message in messages:
        if message["role"] == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return turns


def _first_turn_kept(sizes: Sequence[int], room: int) -> int:
    first, total = 0, 0
    for last, size in enumerate(sizes):
        total += size
        if total > room:
            while first < last and total > ROOM_KEPT_AFTER_OVERFLOW * room:
                total -= sizes[first]
                first += 1
    return first
