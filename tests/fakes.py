"""Handwritten stand-ins, injected where a test needs to say what a part does."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from chatglm3.events import Event, Finished, MessageStart, Started, TextDelta, Usage
from conversation import Conversation, Failure, File, Metrics, Request, Role
from runtime.jobs import Cancellation

USAGE = Usage(prompt_tokens=10, cached_tokens=4, new_tokens=3, first_token_seconds=0.5, seconds=1.5)


# A message that has something in every field.
FULL_MESSAGE = Conversation(
    Role.TOOL,
    'NUL \0, 你好, 👩‍👩‍👧, "quoted" \\ and\r\ntwo lines',
    tool="get_weather",
    arguments={"city": "北京", "days": [1, 2.5, None, True], "deep": {"": {}}},
    outputs=({"output_type": "stream", "name": "stdout", "text": "1\n"}, {"data": {"image/png": "aGk="}}),
    files=(File("你好.png", "image/png", bytes(range(256))), File("", "text/plain", b"")),
    ending="failed",
    error=Failure("No memory.", "no_memory", {"needed": 3.5}),
    metrics=Metrics(100, 60, 7, 0.25, 31.7),
    request=Request("chatglm3-6b", "Be brief.", ({"name": "t"},), {"top_p": 0.8}, "a1b2", 12),
    left_out=4,
)


def answer_events(text: str, metadata: str = "") -> list[Event]:
    """The events of an answer of one message, a word at a time."""
    words = [TextDelta(word) for word in text.split(" ")]
    return [Started(10, 4, 0), MessageStart(metadata), *words, Finished("stop", USAGE)]


class ScriptedGenerate:
    """Answers with given events (an exception among them is raised), and records what it was asked.

    With `gate` it waits there before each event, until the test opens the gate
    or the answer is cancelled.
    """

    def __init__(self, events: Sequence[Event | Exception], gate: threading.Semaphore | None = None) -> None:
        self.events = events
        self.gate = gate
        self.request = Request("scripted", "Be brief.", parameters={"top_p": 0.5})
        self.histories: list[Sequence[Conversation]] = []

    def __call__(
        self, history: Sequence[Conversation], /, *, cancellation: Cancellation, **_: Any
    ) -> Iterator[Event]:
        self.histories.append(history)
        if self.gate is not None:
            cancellation.on_request(self.gate.release)
        for event in self.events:
            if self.gate is not None:
                self.gate.acquire()
            if cancellation():
                yield Finished("cancelled", USAGE)
                return
            if isinstance(event, Exception):
                raise event
            yield event


class WatchedGenerate(ScriptedGenerate):
    """Writes one word, says so, and waits at its gate before it goes on."""

    def __init__(self, events: Sequence[Event | Exception]) -> None:
        first_word = next(number for number, event in enumerate(events) if isinstance(event, TextDelta))
        super().__init__(events, threading.Semaphore(first_word + 1))
        self.written = threading.Event()

    def __call__(
        self, history: Sequence[Conversation], /, *, cancellation: Cancellation, **_: Any
    ) -> Iterator[Event]:
        for event in super().__call__(history, cancellation=cancellation):
            yield event
            if isinstance(event, TextDelta):
                self.written.set()
