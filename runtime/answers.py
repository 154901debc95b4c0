"""An answer while it is written: events in, values out. No threads, no storage."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from chatglm3.events import Event, Finished, FinishReason, MessageStart, Queued, Started, TextDelta, Usage
from conversation import Conversation, Ending, Failure, Metrics, Request, Role
from runtime.jobs import Cancellation


class Generate(Protocol):
    """Answers a history's last message, or goes on with it: a client with its settings filled in."""

    @property
    def request(self) -> Request: ...

    def __call__(
        self, history: Sequence[Conversation], /, *, cancellation: Cancellation
    ) -> Iterator[Event]: ...


ENDINGS: dict[FinishReason, Ending] = {
    "stop": "complete",
    "length": "length",
    "context": "context",
    "cancelled": "stopped",
}


@dataclass(frozen=True)
class Answer:
    """An answer as far as it has come."""

    request: Request
    phase: Literal["waiting", "reading", "writing"] = "waiting"
    place: int = 0  # in the queue for the model; 1 is next
    left_out: int = 0
    messages: tuple[Conversation, ...] = ()

    @classmethod
    def begin(cls, request: Request, going_on_with: Conversation | None = None) -> "Answer":
        """An answer before its first event, with the message that it goes on with, if any."""
        if going_on_with is None:
            return cls(request)
        continued = replace(request, continued=len(going_on_with.content))
        return cls(continued, messages=(replace(going_on_with, ending="complete", error=None, metrics=None),))

    def ended(
        self, ending: Ending, error: Failure | None = None, metrics: Metrics | None = None
    ) -> tuple[Conversation, ...]:
        """Its messages as they stay, at least an empty one; the last tells how it ended."""
        first, *others = self.messages or (Conversation(Role.ASSISTANT, ""),)
        later = replace(self.request, continued=0)
        messages = [
            replace(first, request=self.request),
            *(replace(message, request=later) for message in others),
        ]
        messages[-1] = replace(
            messages[-1], ending=ending, error=error, metrics=metrics, left_out=self.left_out
        )
        return tuple(messages)


def advance(answer: Answer, event: Event) -> Answer:
    """The answer after one more event."""
    match event:
        case Queued(place):
            return replace(answer, place=place)
        case Started(left_out=left_out, prompt_digest=digest):
            request = replace(answer.request, prompt_digest=digest)
            return replace(answer, request=request, phase="reading", place=0, left_out=left_out)
        case MessageStart(metadata):
            return replace(answer, phase="writing", messages=(*answer.messages, _message(metadata)))
        case TextDelta(text):
            last = answer.messages[-1]
            longer = replace(last, content=last.content + text)
            return replace(answer, phase="writing", messages=(*answer.messages[:-1], longer))
        case Finished():
            return answer


def _message(metadata: str) -> Conversation:
    match metadata:
        case "":
            return Conversation(Role.ASSISTANT, "")
        case "interpreter":
            return Conversation(Role.INTERPRETER, "")
        case _:
            return Conversation(Role.TOOL, "", tool=metadata)


def metrics_of(usage: Usage) -> Metrics:
    return Metrics(
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.new_tokens,
        usage.first_token_seconds,
        usage.tokens_per_second,
    )
