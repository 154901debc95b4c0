"""An answer as it grows: what each event makes of it."""

import pytest

from chatglm3.events import Event, Finished, MessageStart, Queued, Started, TextDelta
from conversation import Conversation, Ending, Failure, Request, Role
from runtime.answers import ENDINGS, Answer, advance, metrics_of
from tests.fakes import USAGE, answer_events

REQUEST = Request("model", "Be brief.")


def after(events: list[Event], answer: Answer | None = None) -> Answer:
    answer = answer or Answer.begin(REQUEST)
    for event in events:
        answer = advance(answer, event)
    return answer


def test_an_answer_waits_in_the_queue_then_reads_then_writes() -> None:
    events = [Queued(2), Queued(1), Started(100, 60, 3, "a1b2"), MessageStart(""), TextDelta("a")]
    states = [after(events[:number]) for number in range(6)]
    assert [state.phase for state in states] == [
        "waiting",
        "waiting",
        "waiting",
        "reading",
        "writing",
        "writing",
    ]
    assert [state.place for state in states] == [0, 2, 1, 0, 0, 0]
    assert (states[5].left_out, states[5].request.prompt_digest) == (3, "a1b2")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("", Conversation(Role.ASSISTANT, "ab")),
        ("get_weather", Conversation(Role.TOOL, "ab", tool="get_weather")),
        ("interpreter", Conversation(Role.INTERPRETER, "ab")),
    ],
)
def test_the_text_grows_in_a_message_of_the_role_that_the_header_names(
    metadata: str, message: Conversation
) -> None:
    assert after([MessageStart(metadata), TextDelta("a"), TextDelta("b")]).messages == (message,)


def test_an_answer_can_be_several_messages_and_the_last_tells_how_it_ended() -> None:
    answer = after([MessageStart(""), TextDelta("Let me see."), MessageStart("search"), TextDelta("{}")])
    said, called = answer.ended("stopped", None, metrics_of(USAGE))
    assert (said.content, said.ending, said.metrics) == ("Let me see.", "complete", None)
    assert (called.content, called.ending, called.metrics) == ("{}", "stopped", metrics_of(USAGE))
    assert said.request == called.request == REQUEST


def test_an_answer_that_goes_on_keeps_the_text_and_forgets_how_it_was_cut_off() -> None:
    cut = Conversation(Role.ASSISTANT, "Once", ending="failed", error=Failure("No memory."))
    answer = after([Started(10, 4, 1), TextDelta(" upon")], Answer.begin(REQUEST, cut))
    (message,) = answer.ended("complete")
    assert (message.content, message.ending, message.error) == ("Once upon", "complete", None)
    assert message.request is not None
    assert (message.request.continued, message.left_out) == (4, 1)


def test_only_the_first_message_of_an_answer_was_continued() -> None:
    answer = Answer.begin(REQUEST, Conversation(Role.ASSISTANT, "Once"))
    first, second = after([TextDelta("."), MessageStart("search")], answer).ended("complete")
    assert first.request is not None
    assert second.request is not None
    assert (first.request.continued, second.request.continued) == (4, 0)


def test_an_answer_that_ends_before_its_first_event_is_an_empty_message() -> None:
    (message,) = Answer.begin(REQUEST).ended("failed", Failure("No memory."))
    failed = Conversation(Role.ASSISTANT, "", ending="failed", error=Failure("No memory."), request=REQUEST)
    assert message == failed


@pytest.mark.parametrize(
    ("reason", "ending"),
    [("stop", "complete"), ("length", "length"), ("context", "context"), ("cancelled", "stopped")],
)
def test_every_reason_to_finish_is_an_ending(reason: str, ending: Ending) -> None:
    assert ENDINGS[reason] == ending  # type: ignore[index]


def test_finishing_changes_nothing_of_the_text() -> None:
    events = answer_events("some words")
    assert after(events) == after(events[:-1])
    assert advance(Answer(REQUEST), Finished("stop", USAGE)) == Answer(REQUEST)


def test_the_figures_have_the_decoding_speed() -> None:
    assert metrics_of(USAGE).tokens_per_second == 2.0  # two tokens in the second after the first one
