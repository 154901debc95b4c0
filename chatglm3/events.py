"""What happens while an answer is generated: one small value each, in this order.

    Queued*  Started  (MessageStart  TextDelta*)*  Finished

An answer is one or more messages: ChatGLM3 may speak first, then call a tool.
When the model goes on with a message of its own, the first has no MessageStart.
"""

from dataclasses import dataclass
from typing import Literal

# Why an answer ended: the model was done, the output length or the context
# was used up, or it was cancelled.
FinishReason = Literal["stop", "length", "context", "cancelled"]


@dataclass(frozen=True, slots=True)
class Queued:
    """The model is busy; `position` answers come before this one (1 or more)."""

    position: int


@dataclass(frozen=True, slots=True)
class Started:
    """The model reads the prompt now."""

    prompt_tokens: int
    cached_tokens: int  # of the prompt's, how many need not be read again
    left_out: int  # messages that no longer fit into the context
    prompt_digest: str = ""


@dataclass(frozen=True, slots=True)
class MessageStart:
    """A message begins; `metadata` is "", a tool's name, or "interpreter"."""

    metadata: str


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of the current message."""

    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer took."""

    prompt_tokens: int
    cached_tokens: int
    new_tokens: int
    first_token_seconds: float  # from the start of reading
    seconds: float  # in all

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed, without the time to the first token; 0 if there was only one."""
        decoding = self.seconds - self.first_token_seconds
        return (self.new_tokens - 1) / decoding if self.new_tokens > 1 and decoding > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is over."""

    reason: FinishReason
    usage: Usage


Event = Queued | Started | MessageStart | TextDelta | Finished
