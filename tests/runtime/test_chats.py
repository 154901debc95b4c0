"""Conversations and the jobs that answer them."""

import threading

import pytest

from chatglm3.errors import GenerationError
from chatglm3.events import Event, Finished, MessageStart, Queued, Started, TextDelta
from conversation import Conversation, Ending, Role
from runtime.chats import Answer, BusyError, Chat, Dialogues, advance
from tests.fakes import USAGE, ScriptedGenerate, answer_events


def contents(chat: Chat) -> list[str]:
    return [message.content for message in chat.snapshot()[0]]


def asked(*questions: str) -> tuple[Chat, ScriptedGenerate]:
    """A chat in which each question was answered with "fine"."""
    chat, generate = Chat(), ScriptedGenerate(answer_events("fine"))
    for question in questions:
        chat.ask(question, generate)
        assert chat.wait(5)
    return chat, generate


def test_an_answer_is_appended_to_the_question_with_its_metrics() -> None:
    chat, _ = asked("how are you?")
    question, answer = chat.snapshot()[0]
    assert (question.role, question.content) == (Role.USER, "how are you?")
    assert (answer.role, answer.content, answer.ending) == (Role.ASSISTANT, "fine", "complete")
    assert answer.metrics is not None
    assert answer.metrics.tokens_per_second == 2.0  # two tokens in the second after the first one


def test_the_model_sees_the_whole_history_up_to_the_question() -> None:
    _, generate = asked("one", "two")
    assert [message.content for message in generate.histories[1]] == ["one", "fine", "two"]


def test_while_it_is_written_an_answer_is_seen_and_a_second_question_refused() -> None:
    gate = threading.Semaphore(3)  # up to the first word
    chat = Chat()
    chat.ask("hello", ScriptedGenerate(answer_events("one two"), gate))
    with pytest.raises(BusyError, match="stop it first"):
        chat.ask("again", ScriptedGenerate([]))
    assert chat.snapshot()[1] is not None
    gate.release(10)
    assert chat.wait(5)
    assert contents(chat) == ["hello", "onetwo"]
    assert chat.snapshot()[1] is None


def test_stopping_keeps_what_was_written() -> None:
    started = threading.Event()

    class Watched(ScriptedGenerate):
        def __call__(self, history, /, *, cancellation, **_):  # type: ignore[no-untyped-def]
            for event in super().__call__(history, cancellation=cancellation):
                yield event
                if isinstance(event, TextDelta):
                    started.set()

    chat = Chat()
    gate = threading.Semaphore(4)  # the first word, and the wish for the second
    chat.ask("hello", Watched(answer_events("partial rest of it"), gate))
    assert started.wait(5)
    chat.stop()
    assert chat.wait(5)
    answer = chat.snapshot()[0][-1]
    assert answer.ending == "stopped"
    assert answer.content.startswith("partial")


@pytest.mark.parametrize(("reason", "ending"), [("length", "length"), ("context", "context")])
def test_why_an_answer_ended_is_kept(reason: str, ending: Ending) -> None:
    chat = Chat()
    events: list[Event] = [MessageStart(""), TextDelta("x"), Finished(reason, USAGE)]  # type: ignore[arg-type]
    chat.ask("hello", ScriptedGenerate(events))
    chat.wait(5)
    assert chat.snapshot()[0][-1].ending == ending


def test_a_failure_keeps_the_text_and_says_what_happened() -> None:
    chat = Chat()
    chat.ask("hello", ScriptedGenerate([MessageStart(""), TextDelta("half"), GenerationError("No memory.")]))
    chat.wait(5)
    answer = chat.snapshot()[0][-1]
    assert (answer.content, answer.ending, answer.error) == ("half", "failed", "No memory.")


def test_an_unexpected_failure_is_told_without_its_details() -> None:
    chat = Chat()
    chat.ask("hello", ScriptedGenerate([KeyError("secret")]))
    chat.wait(5)
    answer = chat.snapshot()[0][-1]
    assert "KeyError" in answer.error
    assert "secret" not in answer.error


def test_retry_answers_the_last_question_again() -> None:
    chat, _ = asked("one", "two")
    generate = ScriptedGenerate(answer_events("better"))
    chat.retry(generate)
    chat.wait(5)
    assert contents(chat) == ["one", "fine", "two", "better"]
    assert [message.content for message in generate.histories[0]] == ["one", "fine", "two"]


def test_retry_without_a_question_does_nothing() -> None:
    chat = Chat()
    chat.retry(ScriptedGenerate(answer_events("nobody asked")))
    assert contents(chat) == []


def test_editing_a_question_drops_what_followed_and_answers_the_new_one() -> None:
    chat, generate = asked("one", "two")
    chat.edit(0, "three", generate)
    chat.wait(5)
    assert contents(chat) == ["three", "fine"]


def test_clearing_drops_also_the_answer_that_is_being_written() -> None:
    gate = threading.Semaphore(3)
    chat = Chat()
    chat.ask("hello", ScriptedGenerate(answer_events("one two"), gate))
    job = chat._job
    chat.clear()
    assert job is not None
    assert job.wait(5)
    assert contents(chat) == []
    chat.ask("anew", ScriptedGenerate(answer_events("fine")))
    chat.wait(5)
    assert contents(chat) == ["anew", "fine"]


def test_many_askers_at_once_get_one_answer_each_or_are_refused() -> None:
    chat, refused = Chat(), []
    generate = ScriptedGenerate(answer_events("fine"))

    def ask(number: int) -> None:
        try:
            chat.ask(str(number), generate)
        except BusyError:
            refused.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chat.wait(5)
    assert len(contents(chat)) == 2 * (20 - len(refused))
    assert contents(chat)[1::2] == ["fine"] * (20 - len(refused))


def test_an_answer_advances_with_its_events() -> None:
    answer = Answer()
    for event in (
        Queued(2),
        Started(100, 60, 3),
        MessageStart("get_weather"),
        TextDelta("a"),
        TextDelta("b"),
    ):
        answer = advance(answer, event)
    assert answer == Answer("writing", 0, 3, (Conversation(Role.TOOL, "ab", tool="get_weather"),))


def test_a_dialogue_is_found_by_its_id_only() -> None:
    dialogues = Dialogues(("Chat", "Tool"))
    dialogue_id, dialogue = dialogues.new()
    assert set(dialogue.chats) == {"Chat", "Tool"}
    assert dialogues.open(dialogue_id) is dialogue
    assert dialogues.open("of somebody else") is None


def test_the_least_recently_opened_dialogue_is_forgotten_but_not_one_that_is_answered() -> None:
    dialogues = Dialogues(("Chat",), limit=2)
    ids = [dialogues.new()[0] for _ in range(2)]
    busy = dialogues.open(ids[0])
    assert busy is not None
    gate = threading.Semaphore(0)
    busy.chats["Chat"].ask("hello", ScriptedGenerate(answer_events("fine"), gate))
    dialogues.open(ids[1])
    newest, _ = dialogues.new()
    assert [dialogues.open(each) is not None for each in (*ids, newest)] == [True, False, True]
    gate.release(10)
    assert busy.chats["Chat"].wait(5)
