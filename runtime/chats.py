"""Conversations and the answers that are being written to them.

A `Chat` is one conversation in one mode. Pages (several tabs, several reruns)
call it from their threads; the job that answers appends what it wrote when it is
done, whether or not any page is still there. All state is immutable values,
swapped under the chat's lock.
"""

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from chatglm3.errors import ChatGLM3Error
from chatglm3.events import Event, Finished, FinishReason, MessageStart, Queued, Started, TextDelta, Usage
from conversation import Conversation, Ending, Metrics, Role
from runtime.jobs import Cancellation, Job


class Generate(Protocol):
    """Answers a history's last message: a client's `generate_stream` with its settings filled in."""

    def __call__(
        self, history: Sequence[Conversation], /, *, cancellation: Cancellation
    ) -> Iterator[Event]: ...


_ENDINGS: dict[FinishReason, Ending] = {
    "stop": "complete",
    "length": "length",
    "context": "context",
    "cancelled": "stopped",
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """An answer as far as it has come."""

    phase: Literal["waiting", "reading", "writing"] = "waiting"
    place: int = 0  # in the queue for the model; 1 is next
    left_out: int = 0
    messages: tuple[Conversation, ...] = ()


class BusyError(Exception):
    """The chat is being answered; its sentence is for the user."""


class Chat:
    """One conversation in one mode: its messages and, at times, the answer that is being written."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: tuple[Conversation, ...] = ()
        self._job: Job[Answer] | None = None

    def snapshot(self) -> tuple[tuple[Conversation, ...], Answer | None]:
        """The finished messages, and the answer being written, if one is."""
        with self._lock:
            return self._messages, self._job.state if self._job else None

    @property
    def answering(self) -> bool:
        return self._job is not None

    def ask(self, question: str, generate: Generate) -> None:
        """Add a question and answer it. Raises BusyError while another is being answered."""
        self._replace(None, Conversation(Role.USER, question), generate)

    def edit(self, index: int, question: str, generate: Generate) -> None:
        """Ask another question in the place of message `index`, and answer it; what followed is dropped."""
        self._replace(index, Conversation(Role.USER, question), generate)

    def retry(self, generate: Generate) -> None:
        """Answer the last question again."""
        with self._lock:
            questions = [i for i, message in enumerate(self._messages) if message.role is Role.USER]
        if questions:
            self._replace(questions[-1], None, generate)

    def stop(self) -> None:
        """End the answer early; what was written stays."""
        job = self._job
        if job:
            job.stop()

    def clear(self) -> None:
        """Empty the conversation; an answer that is being written is dropped."""
        with self._lock:
            job, self._job, self._messages = self._job, None, ()
        if job:
            job.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is being answered; whether that came."""
        job = self._job
        return job is None or job.wait(timeout)

    def _replace(self, index: int | None, question: Conversation | None, generate: Generate) -> None:
        """Cut the messages before `index`, add the question (or keep the one there), and answer."""
        with self._lock:
            if self._job is not None:
                raise BusyError("The model is still answering; stop it first.")
            kept = self._messages if index is None else self._messages[: index + (question is None)]
            self._messages = kept + ((question,) if question else ())
            history = self._messages
            self._job = Job[Answer](lambda job: self._answer(job, history, generate), Answer(), "answer")
            self._job.start()

    def _answer(self, job: Job[Answer], history: Sequence[Conversation], generate: Generate) -> None:
        ending: Ending = "failed"
        error, metrics = "", None
        try:
            for event in generate(history, cancellation=job.cancellation):
                if isinstance(event, Finished):
                    ending, metrics = _ENDINGS[event.reason], _metrics(event.usage)
                else:
                    job.publish(advance(job.state, event))
        except (ChatGLM3Error, ValueError) as expected:
            error = str(expected)
        except Exception as unexpected:  # the page must say something, whatever failed
            logger.exception("Answering failed")
            error = f"Answering failed unexpectedly ({type(unexpected).__name__}); the log has the details."
        finally:
            self._finish(job, _ended(job.state, ending, error, metrics))

    def _finish(self, job: Job[Answer], messages: tuple[Conversation, ...]) -> None:
        with self._lock:
            if self._job is job:  # else the conversation was cleared meanwhile
                self._messages += messages
                self._job = None


def advance(answer: Answer, event: Event) -> Answer:
    """The answer after one more event."""
    match event:
        case Queued(place):
            return replace(answer, place=place)
        case Started(left_out=left_out):
            return replace(answer, phase="reading", place=0, left_out=left_out)
        case MessageStart(metadata):
            return replace(answer, phase="writing", messages=(*answer.messages, _message(metadata)))
        case TextDelta(text):
            last = answer.messages[-1]
            return replace(
                answer, messages=(*answer.messages[:-1], replace(last, content=last.content + text))
            )
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


def _ended(answer: Answer, ending: Ending, error: str, metrics: Metrics | None) -> tuple[Conversation, ...]:
    """The answer's messages, the last of which tells how it ended."""
    *others, last = answer.messages or (Conversation(Role.ASSISTANT, ""),)
    last = replace(last, ending=ending, error=error, metrics=metrics, left_out=answer.left_out)
    return (*others, last)


def _metrics(usage: Usage) -> Metrics:
    return Metrics(
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.new_tokens,
        usage.first_token_seconds,
        usage.tokens_per_second,
    )


@dataclass
class Dialogue:
    """What one address of the page shows: a chat per mode, and the settings last used there."""

    chats: dict[str, Chat]
    settings: dict[str, Any] = field(default_factory=dict)  # swapped whole, never changed


class Dialogues:
    """The dialogues of this process, by id.

    The least recently opened ones beyond `limit` are forgotten, but for those
    that are being answered.
    """

    def __init__(self, modes: Sequence[str], limit: int = 1000) -> None:
        self._modes = tuple(modes)
        self._limit = limit
        self._lock = threading.Lock()
        self._dialogues: OrderedDict[str, Dialogue] = OrderedDict()

    def new(self) -> tuple[str, Dialogue]:
        """Begin a dialogue; its id cannot be guessed."""
        dialogue_id = secrets.token_urlsafe(12)
        dialogue = Dialogue({mode: Chat() for mode in self._modes})
        with self._lock:
            self._dialogues[dialogue_id] = dialogue
            self._forget()
        return dialogue_id, dialogue

    def open(self, dialogue_id: str) -> Dialogue | None:
        """The dialogue with this id; None if there is none (any more)."""
        with self._lock:
            dialogue = self._dialogues.get(dialogue_id)
            if dialogue is not None:
                self._dialogues.move_to_end(dialogue_id)
            return dialogue

    def _forget(self) -> None:
        idle = [
            dialogue_id
            for dialogue_id, dialogue in self._dialogues.items()
            if not any(chat.answering for chat in dialogue.chats.values())
        ]
        for dialogue_id in idle[: max(0, len(self._dialogues) - self._limit)]:
            del self._dialogues[dialogue_id]
