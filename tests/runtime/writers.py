"""What runs in the processes that `test_crash.py` kills. They report each commit that has returned."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Semaphore
from typing import Any

from sqlalchemy import Engine, event

from chatglm3.events import Event, MessageStart, Started, TextDelta
from conversation import Conversation, Request, Role
from runtime.chat import Chat
from runtime.database import open_database
from runtime.jobs import Cancellation
from runtime.store import Heading, Store, Stored
from runtime.tree import Node, Tree, now

# The conversation's id, and how many words of its last message were stored.
Report = tuple[str, int]


def words(number: int) -> str:
    """The first words of the text that all answers have."""
    return "".join(f"word{n} " for n in range(number))


def open_only(folder: Path, _: str, reports: Connection) -> None:
    """Open a database, and report each statement before it is run."""
    event.listen(Engine, "before_cursor_execute", lambda *_: reports.send(("", 0)))
    open_database(folder).dispose()


def write_to_store(folder: Path, name: str, reports: Connection) -> None:
    """Let an answer grow by a word at a time."""
    store = Store(open_database(folder))
    said = [Conversation(Role.USER, "count"), Conversation(Role.ASSISTANT, "", ending="interrupted")]
    tree = Tree().add(None, said)
    version = store.create("me", Stored(Heading(name, "chat", name, False, now()), tree))
    for number in count():
        reports.send((name, number))
        answer = replace(said[1], content=words(number + 1))
        tree = tree.put(1, [answer])
        version = store.save("me", name, version, {1: tree.nodes[1]}, 1, {})


class ReportingStore(Store):
    """Reports what it has stored."""

    def __init__(self, engine: Engine, reports: Connection) -> None:
        super().__init__(engine)
        self._reports = reports

    def create(self, owner: str, conversation: Stored) -> int:
        version = super().create(owner, conversation)
        self._report(conversation.heading.id, conversation.tree.nodes[-1].message)
        return version

    def save(
        self, owner: str, conversation_id: str, version: int, changed: Mapping[int, Node], *others: Any
    ) -> int:
        version = super().save(owner, conversation_id, version, changed, *others)
        self._report(conversation_id, changed[max(changed)].message)
        return version

    def _report(self, conversation_id: str, message: Conversation) -> None:
        self._reports.send((conversation_id, len(message.content.split())))


class Counting:
    """Writes the words without end, as many as it may."""

    request = Request("counting")

    def __init__(self) -> None:
        self.gate = Semaphore(0)

    def __call__(self, history: Sequence[Conversation], /, *, cancellation: Cancellation) -> Iterator[Event]:
        yield Started(1, 0, 0)
        yield MessageStart("")
        for number in count():
            self.gate.acquire()
            yield TextDelta(f"word{number} ")


def write_by_chat(folder: Path, _: str, reports: Connection) -> None:
    """Let a chat answer while its settings are changed, which saves what has come, too."""
    chat = Chat("me", "chat", ReportingStore(open_database(folder), reports))
    generate = Counting()
    chat.ask("count", generate)
    for number in count():
        generate.gate.release()
        chat.configure({"number": number})
