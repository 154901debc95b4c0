"""Handwritten stand-ins, injected where a test needs to say what a part does."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from chatglm3.events import Event, Finished, MessageStart, Started, TextDelta, Usage
from conversation import Conversation
from runtime.jobs import Cancellation

USAGE = Usage(prompt_tokens=10, cached_tokens=4, new_tokens=3, first_token_seconds=0.5, seconds=1.5)


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
