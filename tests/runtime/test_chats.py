"""Asking and answering: what a person does with a conversation, whether or not it is stored."""

import threading
from typing import Any

import pytest

from chatglm3.errors import GenerationError
from chatglm3.events import Event, Finished, MessageStart, Started, TextDelta
from conversation import Conversation, Ending, Failure, Role
from runtime.chat import TITLE_LENGTH, Chat
from runtime.errors import BusyError
from tests.fakes import USAGE, ScriptedGenerate, WatchedGenerate, answer_events


def contents(chat: Chat) -> list[str]:
    return [message.content for message in chat.snapshot().history]


def last(chat: Chat) -> Conversation:
    return chat.snapshot().history[-1]


def said(answer: str) -> ScriptedGenerate:
    return ScriptedGenerate(answer_events(answer))


def asked(*questions: str) -> Chat:
    """A chat in which each question was answered with "fine"."""
    chat = Chat("me", "chat")
    for question in questions:
        chat.ask(question, said("fine"))
        assert chat.wait(5)
    return chat


def answering(chat: Chat, answer: str = "partial rest of it") -> WatchedGenerate:
    """What answers a question now, the first word of the answer being written."""
    generate = WatchedGenerate(answer_events(answer))
    chat.ask("hello", generate)
    assert generate.written.wait(5)
    return generate


def finish(chat: Chat, generate: ScriptedGenerate) -> None:
    assert generate.gate is not None
    generate.gate.release(1000)
    assert chat.wait(5)


# Asking


def test_an_answer_is_appended_to_the_question_with_its_figures_and_request() -> None:
    question, answer = asked("how are you?").snapshot().history
    assert (question.role, question.content) == (Role.USER, "how are you?")
    assert (answer.role, answer.content, answer.ending) == (Role.ASSISTANT, "fine", "complete")
    assert answer.metrics is not None
    assert answer.metrics.tokens_per_second == 2.0
    assert answer.request == said("").request


def test_the_model_sees_the_whole_history_up_to_the_question() -> None:
    chat, generate = asked("one"), said("fine")
    chat.ask("two", generate)
    assert chat.wait(5)
    assert [message.content for message in generate.histories[0]] == ["one", "fine", "two"]


def test_while_it_is_written_an_answer_is_seen_and_a_second_question_refused() -> None:
    chat = Chat("me", "chat")
    generate = answering(chat, "one two")
    for action in (chat.retry, chat.go_on, lambda other: chat.ask("again", other)):
        with pytest.raises(BusyError, match="stop it first"):
            action(said("no"))
    with pytest.raises(BusyError):
        chat.choose(0)
    snapshot = chat.snapshot()
    assert snapshot.answer is not None
    assert [message.content for message in snapshot.answer.messages] == ["one"]
    assert [message.content for message in snapshot.history] == ["hello"]
    finish(chat, generate)
    assert contents(chat) == ["hello", "onetwo"]
    assert chat.snapshot().answer is None


def test_stopping_keeps_what_was_written() -> None:
    chat = Chat("me", "chat")
    answering(chat, "partial rest of it")
    chat.stop()
    assert chat.wait(5)
    assert last(chat).ending == "stopped"
    assert last(chat).content.startswith("partial")


@pytest.mark.parametrize(("reason", "ending"), [("length", "length"), ("context", "context")])
def test_why_an_answer_ended_is_kept(reason: str, ending: Ending) -> None:
    chat = Chat("me", "chat")
    events: list[Event] = [MessageStart(""), TextDelta("x"), Finished(reason, USAGE)]  # type: ignore[arg-type]
    chat.ask("hello", ScriptedGenerate(events))
    assert chat.wait(5)
    assert last(chat).ending == ending


def test_a_failure_keeps_the_text_and_says_what_happened() -> None:
    failure = GenerationError("No memory.", "no_memory", gigabytes=3)
    chat = Chat("me", "chat")
    chat.ask("hello", ScriptedGenerate([MessageStart(""), TextDelta("half"), failure]))
    assert chat.wait(5)
    told = Failure("No memory.", "no_memory", {"gigabytes": 3})
    assert (last(chat).content, last(chat).ending, last(chat).error) == ("half", "failed", told)


def test_an_unexpected_failure_is_told_without_its_details() -> None:
    chat = Chat("me", "chat")
    chat.ask("hello", ScriptedGenerate([KeyError("secret")]))
    assert chat.wait(5)
    assert last(chat).error is not None
    assert "KeyError" in last(chat).error.sentence
    assert "secret" not in repr(last(chat).error)


def test_an_answer_of_several_messages_is_added_as_several() -> None:
    chat = Chat("me", "chat")
    events = [
        Started(1, 0, 0),
        MessageStart(""),
        TextDelta("Let me see."),
        MessageStart("search"),
        TextDelta("{}"),
    ]
    chat.ask("hello", ScriptedGenerate([*events, Finished("stop", USAGE)]))
    assert chat.wait(5)
    chat.ask("more", said("fine"))
    assert chat.wait(5)
    assert contents(chat) == ["hello", "Let me see.", "{}", "more", "fine"]


def test_many_askers_at_once_get_one_answer_each_or_are_refused() -> None:
    chat, refused = Chat("me", "chat"), []

    def ask(number: int) -> None:
        try:
            chat.ask(str(number), said("fine"))
        except BusyError:
            refused.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert chat.wait(5)
    assert len(contents(chat)) == 2 * (20 - len(refused))
    assert contents(chat)[1::2] == ["fine"] * (20 - len(refused))


@pytest.mark.parametrize(
    ("question", "title"),
    [("  two\n words ", "two words"), ("x" * 100, "x" * (TITLE_LENGTH - 1) + "…"), ("好" * 60, "好" * 60)],
)
def test_the_title_is_the_first_question_in_short(question: str, title: str) -> None:
    assert asked(question, "second").title == title


def test_what_cannot_be_begun_leaves_the_conversation_as_it_was() -> None:
    chat = asked("one")
    before = chat.tree
    with pytest.raises(IndexError):
        chat.edit(7, "nowhere", said("no"))
    assert (chat.tree, chat.answering) == (before, False)


# Branches


def test_retry_answers_the_last_question_again_and_the_old_answer_stays_a_branch() -> None:
    chat, generate = asked("one", "two"), said("better")
    chat.retry(generate)
    assert chat.wait(5)
    assert contents(chat) == ["one", "fine", "two", "better"]
    assert [message.content for message in generate.histories[0]] == ["one", "fine", "two"]
    shown = chat.snapshot().messages[-1]
    assert (shown.number, shown.branches) == (4, (3, 4))
    chat.choose(3)
    assert contents(chat) == ["one", "fine", "two", "fine"]


def test_retry_without_a_question_does_nothing() -> None:
    chat = Chat("me", "chat")
    chat.retry(said("nobody asked"))
    chat.go_on(said("nobody asked"))
    assert (contents(chat), chat.answering, chat.wait(5)) == ([], False, True)


def test_an_edited_question_is_asked_in_its_place_and_what_followed_the_old_one_stays_a_branch() -> None:
    chat, generate = asked("one", "two"), said("other")
    chat.edit(0, "three", generate)
    assert chat.wait(5)
    assert contents(chat) == ["three", "other"]
    assert [message.content for message in generate.histories[0]] == ["three"]
    assert chat.snapshot().messages[0].branches == (0, 4)
    chat.choose(0)
    assert contents(chat) == ["one", "fine", "two", "fine"]
    chat.choose(4)
    assert contents(chat) == ["three", "other"]


def test_a_question_goes_on_from_the_branch_that_is_shown() -> None:
    chat = asked("one")
    chat.retry(said("better"))
    assert chat.wait(5)
    chat.choose(1)
    chat.ask("two", said("on"))
    assert chat.wait(5)
    assert contents(chat) == ["one", "fine", "two", "on"]


# Going on


def continuing(text: str) -> ScriptedGenerate:
    """The rest of a message that the model goes on with."""
    return ScriptedGenerate([Started(10, 4, 0), TextDelta(text), Finished("stop", USAGE)])


def test_the_model_goes_on_with_its_last_message() -> None:
    chat = Chat("me", "chat")
    chat.ask("tell", ScriptedGenerate([MessageStart(""), TextDelta("Once"), Finished("length", USAGE)]))
    assert chat.wait(5)
    generate = continuing(" upon")
    chat.go_on(generate)
    assert chat.wait(5)
    assert [message.content for message in generate.histories[0]] == ["tell", "Once"]
    assert contents(chat) == ["tell", "Once upon"]
    assert last(chat).ending == "complete"
    assert last(chat).request is not None
    assert last(chat).request.continued == 4


def test_what_the_model_goes_on_with_is_seen_from_the_start() -> None:
    chat = asked("one")
    gate = threading.Semaphore(0)
    generate = ScriptedGenerate(continuing(" and more").events, gate)
    chat.go_on(generate)
    snapshot = chat.snapshot()
    assert snapshot.answer is not None
    assert [message.content for message in snapshot.answer.messages] == ["fine"]
    assert contents(chat) == ["one"]
    finish(chat, generate)
    assert contents(chat) == ["one", "fine and more"]


def test_going_on_that_fails_at_once_keeps_the_message() -> None:
    chat = asked("one")
    chat.go_on(ScriptedGenerate([GenerationError("No memory.")]))
    assert chat.wait(5)
    assert (last(chat).content, last(chat).ending) == ("fine", "failed")


@pytest.mark.parametrize("action", [Chat.retry, Chat.go_on])
def test_an_answer_without_a_word_is_answered_again_in_its_place(action: Any) -> None:
    chat = Chat("me", "chat")
    chat.ask("hello", ScriptedGenerate([GenerationError("No memory.")]))
    assert chat.wait(5)
    generate = said("fine")
    action(chat, generate)
    assert chat.wait(5)
    assert contents(chat) == ["hello", "fine"]
    assert chat.snapshot().messages[-1].branches == (1,)
    assert [message.content for message in generate.histories[0]] == ["hello"]
