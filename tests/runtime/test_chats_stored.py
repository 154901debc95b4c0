"""Conversations in the store: while they are answered, after a crash, from several processes.

Two processes are two `Chats` over two stores of one database: they share nothing else.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chatglm3.errors import GenerationError
from chatglm3.events import Event, Finished, MessageStart, Started, TextDelta
from conversation import Conversation, Ending, Role
from runtime.chat import Chat
from runtime.chats import Chats
from runtime.database import open_database
from runtime.errors import BusyError, DeletedError, StoreError
from runtime.store import Heading, Store, Stored
from runtime.tree import Node, Tree, now
from tests.fakes import USAGE, ScriptedGenerate, WatchedGenerate, answer_events


class WatchedStore(Store):
    """Tells the newest text each time that it has stored some, and fails when the test says so."""

    def __init__(self, folder: Path) -> None:
        super().__init__(open_database(folder))
        self.failure: Exception | None = None
        self.writes: queue.SimpleQueue[str] = queue.SimpleQueue()

    def create(self, owner: str, conversation: Stored) -> int:
        self._fail()
        version = super().create(owner, conversation)
        self.writes.put(conversation.tree.nodes[-1].message.content)
        return version

    def save(
        self, owner: str, conversation_id: str, version: int, changed: Mapping[int, Node], *others: Any
    ) -> int:
        self._fail()
        version = super().save(owner, conversation_id, version, changed, *others)
        for number in sorted(changed)[-1:]:
            self.writes.put(changed[number].message.content)
        return version

    def delete(self, owner: str, conversation_id: str) -> None:
        self._fail()
        super().delete(owner, conversation_id)

    def _fail(self) -> None:
        if self.failure:
            raise self.failure

    def wait_for(self, text: str) -> None:
        """Wait until a message with this text is written."""
        while self.writes.get(timeout=5) != text:
            pass


FULL = StoreError("The disk is full.", "disk_full")


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[[], WatchedStore]]:
    """Opens a store in one database, as each process does for itself."""
    opened: list[WatchedStore] = []

    def open_store() -> WatchedStore:
        opened.append(WatchedStore(tmp_path))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], WatchedStore]) -> WatchedStore:
    return open_store()


@pytest.fixture
def chats(store: WatchedStore) -> Chats:
    return Chats(store)


@pytest.fixture
def others(open_store: Callable[[], WatchedStore]) -> Chats:
    """Another process's conversations."""
    return Chats(open_store())


def said(answer: str) -> ScriptedGenerate:
    return ScriptedGenerate(answer_events(answer))


def ask(chat: Chat, question: str, answer: str = "fine") -> None:
    chat.ask(question, said(answer))
    assert chat.wait(5)


def asked(chats: Chats, *questions: str) -> Chat:
    """A conversation in which each question was answered with "fine"."""
    chat = chats.new("me", "chat")
    chats.keep(chat)
    for question in questions:
        ask(chat, question)
    return chat


def answering(chat: Chat, question: str = "hello") -> WatchedGenerate:
    """What answers a question now, with "partial rest"; "partial" was written."""
    generate = WatchedGenerate(answer_events("partial  rest"))
    chat.ask(question, generate)
    assert generate.written.wait(5)
    return generate


def finish(chat: Chat, generate: ScriptedGenerate) -> None:
    assert generate.gate is not None
    generate.gate.release(1000)
    assert chat.wait(5)


def opened(chats: Chats, chat: Chat) -> Chat:
    found = chats.open(chat.owner, chat.id)
    assert found is not None
    return found


def contents(chat: Chat) -> list[str]:
    return [message.content for message in chat.snapshot().history]


def stored(store: Store, chat: Chat) -> list[Conversation]:
    """The messages of the branch that is shown, as they are stored."""
    found = store.load(chat.owner, chat.id)
    assert found is not None
    return list(found.tree.messages())


def everything(store: Store, chat: Chat) -> list[str]:
    """The texts of all branches, as they are stored."""
    found = store.load(chat.owner, chat.id)
    assert found is not None
    return [node.message.content for node in found.tree.nodes]


# While it is answered


def test_the_question_and_an_empty_answer_are_stored_before_the_models_first_event(
    chats: Chats, store: WatchedStore
) -> None:
    chat, seen = chats.new("me", "chat"), []

    class Looking(ScriptedGenerate):
        def __call__(self, *arguments: Any, **options: Any) -> Iterator[Event]:
            seen.extend(stored(store, chat))
            return super().__call__(*arguments, **options)

    generate = Looking(answer_events("fine"))
    chat.ask("hello", generate)
    assert chat.wait(5)
    empty = Conversation(Role.ASSISTANT, "", ending="interrupted", request=generate.request)
    assert seen == [Conversation(Role.USER, "hello"), empty]
    assert store.find("me")[0][0].title == "hello"


def test_an_empty_conversation_is_not_stored(chats: Chats, store: WatchedStore) -> None:
    chat = chats.new("me", "chat")
    chats.keep(chat)
    chat.configure({"top_p": 0.5})
    chat.retry(said("no"))
    assert store.find("me") == ([], 0)
    assert opened(chats, chat) is chat


def test_what_is_written_is_saved_as_interrupted_while_more_is_written(
    chats: Chats, store: WatchedStore
) -> None:
    chat = chats.new("me", "chat")
    generate = answering(chat)
    assert store.writes.get(timeout=5) == ""  # at once
    assert store.writes.get(timeout=5) == "partial"  # a second later
    assert (stored(store, chat)[-1].content, stored(store, chat)[-1].ending) == ("partial", "interrupted")
    finish(chat, generate)
    assert store.writes.get(timeout=5) == "partialrest"
    assert stored(store, chat)[-1].ending == "complete"


def test_a_fast_answer_is_not_saved_word_by_word(chats: Chats, store: WatchedStore) -> None:
    chat = chats.new("me", "chat")
    ask(chat, "hello", " ".join(["word"] * 2000))
    assert len(stored(store, chat)[-1].content) == 8000
    assert store.writes.qsize() < 10


@pytest.mark.parametrize(
    ("event", "ending"),
    [
        (Finished("stop", USAGE), "complete"),
        (Finished("length", USAGE), "length"),
        (Finished("context", USAGE), "context"),
        (Finished("cancelled", USAGE), "stopped"),
        (GenerationError("No memory."), "failed"),
        (KeyError("unexpected"), "failed"),
    ],
)
def test_how_an_answer_ended_is_stored(
    event: Event | Exception, ending: Ending, chats: Chats, store: WatchedStore
) -> None:
    chat = chats.new("me", "chat")
    chat.ask("hello", ScriptedGenerate([Started(1, 0, 2), MessageStart(""), TextDelta("x"), event]))
    assert chat.wait(5)
    assert stored(store, chat) == list(chat.snapshot().history)
    assert (stored(store, chat)[-1].ending, stored(store, chat)[-1].left_out) == (ending, 2)


def test_an_answer_of_several_messages_is_stored_as_several(chats: Chats, store: WatchedStore) -> None:
    chat = chats.new("me", "chat")
    generate = WatchedGenerate(
        [MessageStart(""), TextDelta("Let me see."), MessageStart("search"), TextDelta("{}"), TextDelta("!")]
    )
    assert generate.gate is not None
    generate.gate.release(2)
    chat.ask("hello", generate)
    assert [store.writes.get(timeout=5) for _ in range(2)] == ["", "{}"]
    finish(chat, generate)
    assert everything(store, chat) == ["hello", "Let me see.", "{}!"]


def test_the_settings_are_stored_with_the_conversation(chats: Chats, others: Chats) -> None:
    chat = chats.new("me", "tool")
    chat.configure({"top_p": 0.5})
    ask(chat, "hello")
    assert opened(others, chat).settings == {"top_p": 0.5}
    chat.configure({"top_p": 0.7})
    there = opened(others, chat)
    assert (there.settings, there.mode, there.title) == ({"top_p": 0.7}, "tool", "hello")


# After a crash


def cut_off(store: Store, answer: str, ending: Ending = "interrupted") -> str:
    """The id of a conversation whose last answer was cut off like this."""
    said = [
        Conversation(Role.USER, "hello"),
        Conversation(Role.ASSISTANT, answer, ending=ending, request=said_request),
    ]
    store.create("me", Stored(Heading("cut", "chat", "hello", False, now()), Tree().add(None, said)))
    return "cut"


said_request = said("").request


def test_after_a_restart_an_answer_that_was_cut_off_is_shown_as_interrupted(
    chats: Chats, others: Chats, store: WatchedStore
) -> None:
    chat = chats.new("me", "chat")
    generate = answering(chat)
    assert [store.writes.get(timeout=5) for _ in range(2)] == ["", "partial"]
    snapshot = opened(others, chat).snapshot()
    assert snapshot.answer is None
    assert (snapshot.history[-1].content, snapshot.history[-1].ending) == ("partial", "interrupted")
    finish(chat, generate)


def test_the_model_goes_on_with_an_answer_that_was_cut_off(chats: Chats, store: WatchedStore) -> None:
    chat = chats.open("me", cut_off(store, "Once"))
    assert chat is not None
    generate = ScriptedGenerate([Started(10, 4, 0), TextDelta(" upon"), Finished("stop", USAGE)])
    chat.go_on(generate)
    assert chat.wait(5)
    assert [message.content for message in generate.histories[0]] == ["hello", "Once"]
    answer = stored(store, chat)[-1]
    assert (answer.content, answer.ending) == ("Once upon", "complete")
    assert answer.request == replace(generate.request, continued=4)
    assert chat.snapshot().messages[-1].branches == (1,)


def test_an_answer_that_was_cut_off_is_tried_again_in_a_branch(chats: Chats, store: WatchedStore) -> None:
    chat = chats.open("me", cut_off(store, "Once"))
    assert chat is not None
    chat.retry(said("fine"))
    assert chat.wait(5)
    assert [message.content for message in stored(store, chat)] == ["hello", "fine"]
    assert chat.snapshot().messages[-1].branches == (1, 2)


def test_an_answer_that_was_cut_off_before_its_first_word_is_tried_again_in_its_place(
    chats: Chats, store: WatchedStore
) -> None:
    chat = chats.open("me", cut_off(store, ""))
    assert chat is not None
    chat.go_on(said("fine"))
    assert chat.wait(5)
    assert everything(store, chat) == ["hello", "fine"]
    assert stored(store, chat)[-1].ending == "complete"


# Branches


def test_the_branches_of_edits_and_retries_are_stored_with_the_choice_among_them(
    chats: Chats, others: Chats, store: WatchedStore
) -> None:
    chat = asked(chats, "one")
    chat.retry(said("better"))
    assert chat.wait(5)
    chat.edit(0, "two", said("other"))
    assert chat.wait(5)
    assert everything(store, chat) == ["one", "fine", "better", "two", "other"]
    chat.choose(1)
    assert contents(opened(others, chat)) == ["one", "fine"]
    assert opened(others, chat).tree == chat.tree


# A store that fails


@pytest.mark.parametrize("questions_before", [0, 1])
def test_what_could_not_be_saved_is_kept_and_told_and_saved_with_the_next(
    questions_before: int, chats: Chats, others: Chats, store: WatchedStore
) -> None:
    chat = asked(chats, *["before"] * questions_before)
    store.failure = FULL
    ask(chat, "one", "first")
    failure = chat.snapshot().save_failure
    assert failure is not None
    assert (failure.sentence, failure.key) == ("The disk is full.", "disk_full")
    assert contents(chat)[-2:] == ["one", "first"]
    assert chat.unsaved
    assert opened(chats, chat) is chat
    store.failure = None
    ask(chat, "two", "second")
    assert chat.snapshot().save_failure is None
    assert not chat.unsaved
    assert opened(others, chat).tree == chat.tree
    assert contents(chat)[-4:] == ["one", "first", "two", "second"]


def test_a_question_that_could_not_be_saved_is_saved_with_its_answer(
    chats: Chats, store: WatchedStore
) -> None:
    chat = chats.new("me", "chat")
    store.failure = FULL
    generate = answering(chat)
    assert chat.snapshot().save_failure is not None
    store.failure = None
    finish(chat, generate)
    assert [message.content for message in stored(store, chat)] == ["hello", "partialrest"]


def test_a_store_that_breaks_down_leaves_the_conversation_as_it_was(
    chats: Chats, store: WatchedStore
) -> None:
    chat = asked(chats, "one")
    before = chat.tree
    store.failure = ZeroDivisionError("a fault of ours")
    with pytest.raises(ZeroDivisionError):
        chat.ask("two", said("no"))
    assert (chat.tree, chat.answering, chat.unsaved) == (before, False, False)
    store.failure = None
    ask(chat, "two")
    assert [message.content for message in stored(store, chat)] == ["one", "fine", "two", "fine"]


# Several processes


def test_a_question_is_appended_to_what_another_process_has_added(
    chats: Chats, others: Chats, store: WatchedStore
) -> None:
    here = asked(chats, "one")
    there = opened(others, here)
    ask(here, "two")
    generate = said("on")
    there.ask("three", generate)
    assert there.wait(5)
    assert [message.content for message in generate.histories[0]] == ["one", "fine", "two", "fine", "three"]
    assert [message.content for message in stored(store, here)] == [
        "one",
        "fine",
        "two",
        "fine",
        "three",
        "on",
    ]
    assert contents(opened(chats, here)) == contents(there)


def test_retry_and_editing_start_from_what_another_process_has_added(chats: Chats, others: Chats) -> None:
    here = asked(chats, "one")
    there = opened(others, here)
    ask(here, "two")
    there.retry(said("better"))
    assert there.wait(5)
    assert contents(there) == ["one", "fine", "two", "better"]
    here.edit(0, "edited", said("other"))
    assert here.wait(5)
    assert contents(here) == ["edited", "other"]
    assert len(here.tree.nodes) == 7


def test_an_answer_that_ends_while_another_process_has_asked_becomes_a_branch(
    chats: Chats, others: Chats, store: WatchedStore
) -> None:
    here = asked(chats, "one")
    generate = answering(here, "two")
    there = opened(others, here)
    ask(there, "three", "third")
    finish(here, generate)
    assert contents(here) == ["one", "fine", "two", "partialrest"]
    assert here.snapshot().messages[-1].branches == (3, 6)
    here.choose(3)
    assert contents(here)[-2:] == ["three", "third"]
    assert set(everything(store, here)) == {"one", "fine", "two", "", "three", "third", "partialrest"}
    assert opened(others, here).tree == here.tree


def test_an_answer_stays_in_its_place_when_another_process_has_only_looked_elsewhere(
    chats: Chats, others: Chats, store: WatchedStore
) -> None:
    here = asked(chats, "one")
    here.retry(said("better"))
    assert here.wait(5)
    generate = answering(here, "two")
    there = opened(others, here)
    there.choose(1)
    there.configure({"top_p": 0.5})
    finish(here, generate)
    assert everything(store, here) == ["one", "fine", "better", "two", "partialrest"]
    assert contents(here) == ["one", "better", "two", "partialrest"]


def test_answers_of_two_processes_at_once_make_two_branches_and_no_more(
    chats: Chats, others: Chats, store: WatchedStore
) -> None:
    here = asked(chats, "one")
    generates = [WatchedGenerate(answer_events("a b c d")) for _ in range(2)]
    here.ask("two", generates[0])
    there = opened(others, here)
    there.ask("three", generates[1])
    for text in ("ab", "abc"):
        for generate, each in zip(generates, (chats, others), strict=True):
            generate.gate.release()
            each.store.wait_for(text)
    for generate, chat in zip(generates, (here, there), strict=True):
        finish(chat, generate)
    texts = everything(store, here)
    assert texts[:3] == ["one", "fine", "two"]
    assert sorted(texts[4:]) == ["abcd", "abcd", "three"]  # and 3 is the first answer, when "three" was asked


def test_what_could_not_be_saved_is_not_lost_when_another_process_could(
    chats: Chats, others: Chats, store: WatchedStore
) -> None:
    here = asked(chats, "one")
    there = opened(others, here)
    store.failure = FULL
    ask(here, "two", "second")
    ask(there, "three", "third")
    store.failure = None
    ask(here, "four", "fourth")
    assert contents(here) == ["one", "fine", "two", "second", "four", "fourth"]
    assert everything(store, here) == ["one", "fine", "three", "third", "two", "second", "four", "fourth"]
    here.choose(2)
    assert contents(opened(others, here)) == ["one", "fine", "three", "third"]


def test_an_answer_whose_question_could_not_be_saved_takes_it_along_into_its_branch(
    chats: Chats, others: Chats, store: WatchedStore
) -> None:
    here = asked(chats, "one")
    there = opened(others, here)
    store.failure = FULL
    generate = answering(here, "two")
    ask(there, "three", "third")
    store.failure = None
    finish(here, generate)
    assert [message.content for message in stored(store, here)] == ["one", "fine", "two", "partialrest"]
    assert everything(store, here) == ["one", "fine", "three", "third", "two", "partialrest"]


def test_another_branch_is_shown_also_of_what_another_process_has_changed(
    chats: Chats, others: Chats, store: WatchedStore
) -> None:
    here = asked(chats, "one")
    here.retry(said("better"))
    assert here.wait(5)
    there = opened(others, here)
    ask(here, "two")
    there.choose(1)
    assert contents(there) == ["one", "fine"]
    assert [message.content for message in stored(store, here)] == ["one", "fine"]
    assert everything(store, here) == ["one", "fine", "better", "two", "fine"]


def test_settings_are_kept_also_in_what_another_process_has_changed(chats: Chats, others: Chats) -> None:
    here = asked(chats, "one")
    there = opened(others, here)
    ask(here, "two")
    there.configure({"top_p": 0.5})
    assert opened(chats, here).settings == {"top_p": 0.5}
    assert contents(there) == ["one", "fine", "two", "fine"]


def test_of_many_questions_from_two_processes_at_once_none_is_lost(
    chats: Chats, others: Chats, store: WatchedStore
) -> None:
    here = asked(chats, "start")

    def ask_many(chats: Chats, name: str) -> None:
        for number in range(10):
            ask(opened(chats, here), f"{name}{number}", f"answer-to-{name}{number}")

    threads = [threading.Thread(target=ask_many, args=each) for each in ((chats, "a"), (others, "b"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.load("me", here.id)
    assert found is not None
    nodes = found.tree.nodes
    for name in [f"{each}{number}" for each in "ab" for number in range(10)]:
        (answer,) = [node for node in nodes if node.message.content == f"answer-to-{name}"]
        assert answer.parent is not None
        assert nodes[answer.parent].message.content == name


# Opening


def test_a_conversation_is_opened_once_in_a_process(chats: Chats, others: Chats) -> None:
    chat = asked(chats, "one")
    assert opened(chats, chat) is chat
    there = opened(others, chat)
    assert opened(others, chat) is there
    ask(chat, "two")
    assert opened(chats, chat) is chat
    assert contents(opened(others, chat)) == ["one", "fine", "two", "fine"]


def test_tabs_that_open_it_at_once_share_it(chats: Chats, others: Chats) -> None:
    chat, found = asked(others, "one"), []
    together = threading.Barrier(8)

    def open_it() -> None:
        together.wait()
        found.append(chats.open("me", chat.id))

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert found[0] is not None


def test_another_owner_can_neither_open_nor_change_it(chats: Chats, others: Chats) -> None:
    chat = asked(chats, "secret")
    for each in (chats, others):
        assert each.open("somebody else", chat.id) is None
        assert each.stored("somebody else", chat.id) is None
        each.rename("somebody else", chat.id, "stolen")
        each.delete("somebody else", chat.id)
        each.restore("somebody else", chat.id)
    assert (chat.title, chat.deleted) == ("secret", False)
    assert opened(others, chat).title == "secret"


def test_a_conversation_that_nobody_has_is_not_opened(chats: Chats) -> None:
    assert chats.open("me", "nowhere") is None
    assert chats.stored("me", "nowhere") is None


def test_the_whole_conversation_is_had_with_what_is_being_written(chats: Chats) -> None:
    chat = asked(chats, "one")
    generate = answering(chat, "two")
    whole = chats.stored("me", chat.id)
    assert whole is not None
    assert [message.content for message in whole.tree.messages()] == ["one", "fine", "two", "partial"]
    assert whole.tree.messages()[-1].ending == "interrupted"
    finish(chat, generate)


def test_a_new_title_is_seen_where_it_is_open(chats: Chats, store: WatchedStore) -> None:
    chat = asked(chats, "one")
    chats.rename("me", chat.id, "other")
    chats.rename("me", chat.id, "  ")
    assert (chat.title, store.find("me")[0][0].title) == ("other", "other")
    ask(chat, "two")
    assert (chat.title, store.find("me")[0][0].title) == ("other", "other")


# Deleting


def test_deleting_it_stops_its_answer_and_undoing_that_brings_it_back(
    chats: Chats, store: WatchedStore
) -> None:
    chat = asked(chats, "one")
    answering(chat, "two")
    chats.delete("me", chat.id)
    assert chat.wait(5)
    assert (chats.open("me", chat.id), store.find("me")) == (None, ([], 0))
    with pytest.raises(DeletedError):
        chat.ask("three", said("no"))
    chats.restore("me", chat.id)
    assert opened(chats, chat) is chat
    assert contents(chat) == ["one", "fine", "two", "partial"]
    assert [message.ending for message in stored(store, chat)][-1] == "stopped"
    ask(chat, "three")
    assert len(stored(store, chat)) == 6


def test_a_conversation_that_another_process_has_deleted_is_gone_until_it_is_restored(
    chats: Chats, others: Chats
) -> None:
    chat = asked(chats, "one")
    others.delete("me", chat.id)
    assert chats.open("me", chat.id) is None
    others.restore("me", chat.id)
    assert contents(opened(chats, chat)) == ["one", "fine"]
    chats.delete("me", chat.id)
    others.restore("me", chat.id)
    ask(opened(chats, chat), "two")
    assert contents(opened(others, chat)) == ["one", "fine", "two", "fine"]


def test_what_another_process_has_removed_for_good_can_no_longer_be_asked(
    chats: Chats, others: Chats
) -> None:
    chat = asked(chats, "one")
    others.delete("me", chat.id)
    others.store.purge(deleted_before=now())
    with pytest.raises(DeletedError):
        chat.ask("two", said("no"))
    assert not chat.answering
    assert chats.open("me", chat.id) is None


@pytest.mark.parametrize("gone", [False, True])
def test_an_answer_ends_in_order_also_when_its_conversation_was_deleted_elsewhere(
    gone: bool, chats: Chats, others: Chats, caplog: pytest.LogCaptureFixture
) -> None:
    chat = asked(chats, "one")
    generate = answering(chat, "two")
    there = opened(others, chat)
    there.choose(0)  # another version than the answer's
    others.delete("me", chat.id)
    if gone:
        others.store.purge(deleted_before=now())
    finish(chat, generate)
    assert contents(chat) == ["one", "fine", "two", "partialrest"]
    assert chats.open("me", chat.id) is None
    assert caplog.records == []


def test_a_conversation_that_could_not_be_deleted_can_still_be_used(
    chats: Chats, store: WatchedStore
) -> None:
    chat = asked(chats, "one")
    store.failure = FULL
    with pytest.raises(StoreError, match="disk is full"):
        chats.delete("me", chat.id)
    store.failure = None
    ask(opened(chats, chat), "two")
    assert contents(chat) == ["one", "fine", "two", "fine"]


def test_a_deleted_conversation_that_could_not_be_stored_is_not_stored_later(
    chats: Chats, store: WatchedStore
) -> None:
    chat = chats.new("me", "chat")
    chats.keep(chat)
    store.failure = FULL
    generate = answering(chat)
    store.failure = None
    chats.delete("me", chat.id)
    finish(chat, generate)
    assert store.find("me") == ([], 0)
    assert chats.open("me", chat.id) is None
    chats.restore("me", chat.id)
    ask(opened(chats, chat), "two")
    assert len(stored(store, chat)) == 4


# Temporary ones


def test_nothing_of_a_temporary_conversation_is_stored(chats: Chats, store: WatchedStore) -> None:
    chat = chats.new("me", "chat", temporary=True)
    chats.keep(chat)
    chat.configure({"top_p": 0.5})
    ask(chat, "secret")
    chat.retry(said("other"))
    assert chat.wait(5)
    chat.choose(1)
    assert (chat.temporary, opened(chats, chat)) == (True, chat)
    assert rows(store) == [0, 0, 0]
    chats.rename("me", chat.id, "secret")
    chats.delete("me", chat.id)
    chats.restore("me", chat.id)
    assert chats.open("me", chat.id) is None
    assert rows(store) == [0, 0, 0]


def rows(store: Store) -> list[int]:
    """How many rows each table has."""
    tables = ("conversations", "messages", "search")
    with store._engine.connect() as connection:
        return [connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() for table in tables]


def test_a_temporary_conversation_is_deleted_also_when_the_store_fails(
    chats: Chats, store: WatchedStore
) -> None:
    chat = chats.new("me", "chat", temporary=True)
    chats.keep(chat)
    answering(chat)
    store.failure = FULL
    chats.delete("me", chat.id)
    assert chat.wait(5)
    assert chats.open("me", chat.id) is None


# Memory


def kept(chats: Chats, chat: Chat) -> bool:
    """Whether the very same conversation is still in memory."""
    return chats.open(chat.owner, chat.id) is chat


def test_the_least_recently_used_conversation_is_let_go_and_comes_back_from_the_store(
    store: WatchedStore,
) -> None:
    chats = Chats(store, limit=2)
    first, second = asked(chats, "one"), asked(chats, "two")
    assert kept(chats, first)  # used once more
    third = asked(chats, "three")
    assert kept(chats, third)
    assert kept(chats, first)
    assert not kept(chats, second)
    assert contents(opened(chats, second)) == ["two", "fine"]


def test_a_conversation_that_is_answered_or_not_saved_is_never_let_go(store: WatchedStore) -> None:
    chats = Chats(store, limit=1)
    busy = chats.new("me", "chat")
    chats.keep(busy)
    generate = answering(busy)
    store.failure = FULL
    unsaved = asked(chats, "one")
    for _ in range(3):
        chats.keep(chats.new("me", "chat"))
    assert kept(chats, busy)
    assert kept(chats, unsaved)
    store.failure = None
    finish(busy, generate)


def test_temporary_conversations_do_not_fill_the_memory(store: WatchedStore) -> None:
    chats = Chats(store, limit=2)
    temporary = [chats.new("me", "chat", temporary=True) for _ in range(4)]
    for chat in temporary:
        ask(chat, "hello")
        chats.keep(chat)
    assert [kept(chats, chat) for chat in temporary] == [False, False, True, True]


def test_a_second_question_waits_for_no_save(chats: Chats, store: WatchedStore) -> None:
    chat = asked(chats, "one")
    generate = answering(chat, "two")
    with chat._saving, pytest.raises(BusyError):  # as while the database is locked
        chat.ask("three", said("no"))
    finish(chat, generate)
