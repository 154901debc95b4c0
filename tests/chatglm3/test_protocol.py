"""An answer's text becomes its messages, the same however the text was cut."""

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatglm3.events import MessageStart, TextDelta
from chatglm3.generation import iter_text
from chatglm3.protocol import MAX_HEADER, MessageParser, iter_events
from tests.chatglm3.fakes import CharacterTokenizer

TOKENIZER = CharacterTokenizer()
CALL = "```python\ntool_call(city_name='北京')\n```"

ANSWERS = [
    "\n Hello, world!",
    " \n  你好!  \n\n",
    "get_weather\n " + CALL,
    "interpreter\n ```python\nprint('interpreter')\n```\n\n",
    "No header here, just text.\nAnd more.",
    "  \n",
    "",
    "one",
    "a" * MAX_HEADER + "\nb",
    "a" * (MAX_HEADER + 1) + "\nb",
]


def joined(events: Iterable[MessageStart | TextDelta]) -> list[tuple[str, str]]:
    """The messages of some events: metadata and content."""
    messages: list[tuple[str, str]] = []
    for event in events:
        match event:
            case MessageStart(metadata):
                messages.append((metadata, ""))
            case TextDelta(text):
                messages[-1] = (messages[-1][0], messages[-1][1] + text)
    return messages


def parse(*pieces: str) -> list[tuple[str, str]]:
    def events() -> Iterator[MessageStart | TextDelta]:
        parser = MessageParser()
        for piece in pieces:
            yield from parser.decode(piece)
        yield from parser.flush()

    return joined(events())


def parse_answer(*messages: str) -> list[tuple[str, str]]:
    """The messages of an answer that has these, with <|assistant|> between them."""
    token_ids = TOKENIZER.encode(messages[0])
    for message in messages[1:]:
        token_ids += [TOKENIZER.assistant_token_id, *TOKENIZER.encode(message)]
    return joined(iter_events(iter_text(token_ids, TOKENIZER), TOKENIZER))


# How it may be cut


@pytest.mark.parametrize("answer", ANSWERS)
def test_it_is_the_same_cut_in_two_anywhere(answer: str) -> None:
    for position in range(len(answer) + 1):
        assert parse(answer[:position], answer[position:]) == parse(answer)


@pytest.mark.parametrize("answer", ANSWERS)
def test_it_is_the_same_character_by_character(answer: str) -> None:
    assert parse(*answer) == parse(answer)


@given(st.lists(st.text(st.sampled_from(" \n\t\r_.,a你\u2028\x1c<|>")), max_size=12))
def test_any_pieces_parse_as_the_whole_would(pieces: list[str]) -> None:
    assert parse(*pieces) == parse("".join(pieces))


@given(st.lists(st.text(st.sampled_from(" \na.你")), max_size=8))
def test_no_delta_is_empty_and_none_comes_before_its_message(pieces: list[str]) -> None:
    parser = MessageParser()
    events = [event for piece in pieces for event in parser.decode(piece)] + [*parser.flush()]
    assert TextDelta("") not in events
    assert all(isinstance(event, MessageStart) == (i == 0) for i, event in enumerate(events))


# What it means


@pytest.mark.parametrize(
    "answer", ["\n Hello, world!", "\nHello, world!\n", " \n\n  Hello, world! \n \t", "Hello, world!"]
)
def test_a_plain_answer_has_no_white_space_around_it(answer: str) -> None:
    assert parse(answer) == [("", "Hello, world!")]


def test_white_space_within_a_plain_answer_is_kept() -> None:
    assert parse("\n a\n\n\n    b  c") == [("", "a\n\n\n    b  c")]


@pytest.mark.parametrize(
    "name", ["get_weather", "interpreter", "github.search", "a/b:c-d", "查询天气", "a" * MAX_HEADER]
)
def test_a_header_line_names_what_is_called(name: str) -> None:
    assert parse(f"{name}\n {CALL}") == parse(f" {name} \n {CALL}") == [(name, CALL)]


@pytest.mark.parametrize("content", ["  x\n", "\n\nx\n\n", "x  ", "   "])
def test_of_a_calls_content_only_one_leading_space_is_dropped(content: str) -> None:
    assert parse("interpreter\n " + content) == [("interpreter", content)]
    assert parse("interpreter\n" + content) == [("interpreter", content.removeprefix(" "))]


@pytest.mark.parametrize(
    "answer",
    ["Hello, here I am.\nYou?", "Well done!", "a" * (MAX_HEADER + 1) + "\nb", "get weather\n x", "你好!"],
)
def test_a_first_line_that_is_no_name_belongs_to_the_answer(answer: str) -> None:
    assert parse(answer) == [("", answer)]


@pytest.mark.parametrize("answer", ["one", "interpreter", " Paris "])
def test_a_name_without_a_line_of_its_own_is_the_answer(answer: str) -> None:
    assert parse(answer) == [("", answer.strip())]


def test_an_answer_shows_as_soon_as_it_cannot_be_a_header() -> None:
    parser = MessageParser()
    assert [*parser.decode("Well"), *parser.decode(" done")] == [MessageStart(""), TextDelta("Well done")]


def test_text_that_looks_like_a_special_token_is_only_text() -> None:
    text = "The format uses <|assistant|> and <|observation|>."
    assert parse_answer(text) == [("", text)]


# Several messages


def test_the_assistant_token_begins_a_further_message() -> None:
    assert parse_answer("\n I will look.", "get_weather\n " + CALL) == [
        ("", "I will look."),
        ("get_weather", CALL),
    ]


def test_a_message_that_ends_in_its_header_is_an_answer_of_its_own() -> None:
    assert parse_answer("Paris", "\n Tokyo") == [("", "Paris"), ("", "Tokyo")]


def test_a_message_without_text_is_not_begun() -> None:
    assert parse_answer("", "\n Hello") == [("", "Hello")]


def test_the_stop_token_is_not_text() -> None:
    stop = next(iter(TOKENIZER.stop_token_ids))
    tokens = iter_text([*TOKENIZER.encode("\n Hello"), stop], TOKENIZER)
    assert joined(iter_events(tokens, TOKENIZER)) == [("", "Hello")]


def test_nothing_said_is_no_message() -> None:
    assert parse_answer("") == []


# Going on


def test_a_message_that_is_gone_on_with_has_no_start_and_keeps_its_white_space() -> None:
    tokens = iter_text(TOKENIZER.encode(" and\nso on"), TOKENIZER)
    events = list(iter_events(tokens, TOKENIZER, going_on_with=""))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == " and\nso on"
    assert not any(isinstance(event, MessageStart) for event in events)
