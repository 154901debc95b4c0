"""Messages as JSON: nothing of one may be lost or changed, whatever is in it."""

import dataclasses
import json
import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from conversation import Conversation, Failure, File, Metrics, Request, Role
from runtime.records import Record, to_json
from runtime.tree import Node
from tests.fakes import FULL_MESSAGE

CREATED = datetime(2026, 11, 22, 20, 41, 7, 123456, UTC)


def stored(message: Conversation, parent: int | None = 3, created: datetime = CREATED) -> Node:
    """The message after it was written and read again."""
    return Record.model_validate_json(to_json(Record.of(Node(parent, message, created)))).node()


def changed(message: Conversation = FULL_MESSAGE, /, **fields: object) -> str:
    """The record of the message as JSON, with these fields set in the message."""
    record = json.loads(to_json(Record.of(Node(None, message, CREATED))))
    record["message"] |= fields
    return json.dumps(record)


def test_every_field_of_a_message_comes_back_as_it_was() -> None:
    node = stored(FULL_MESSAGE)
    assert node == Node(3, FULL_MESSAGE, CREATED)
    defaults = Conversation(Role.USER, "")
    for field in dataclasses.fields(Conversation):  # the message has something in each of them
        assert getattr(FULL_MESSAGE, field.name) != getattr(defaults, field.name), field.name
        assert type(getattr(node.message, field.name)) is type(getattr(FULL_MESSAGE, field.name))


def test_a_bare_message_comes_back_and_its_record_has_no_more_than_it() -> None:
    assert stored(Conversation(Role.USER, "hi"), None) == Node(None, Conversation(Role.USER, "hi"), CREATED)
    record = json.loads(to_json(Record.of(Node(None, Conversation(Role.USER, "hi"), CREATED))))
    assert record["message"] == {"role": "user", "content": "hi"}


@pytest.mark.parametrize("role", Role)
def test_every_role_comes_back(role: Role) -> None:
    assert stored(Conversation(role, "x")).message.role is role


@given(st.text())
@example("NUL \0, ESC \x1b, 你好, 𠀀, 👩‍👩‍👧, é, \u2028, \ufeff, \U0010ffff, </script>, \\u0000")
@settings(deadline=None)
def test_any_text_that_can_be_encoded_comes_back_exactly(text: str) -> None:
    assert stored(Conversation(Role.USER, text)).message.content == text


@given(st.text(st.characters(exclude_categories=())))
@example("a\ud800b\udfff")
@settings(deadline=None)
def test_of_any_text_only_lone_surrogates_are_replaced(text: str) -> None:
    assert stored(Conversation(Role.USER, text)).message.content == text.encode(errors="replace").decode()


def test_lone_surrogates_are_replaced_in_every_field_and_change_no_other_one() -> None:
    broken = dataclasses.replace(
        FULL_MESSAGE,
        tool="\ud800",
        arguments={"list": ["\ud800", {"deep": "\udc80"}]},
        error=Failure("\ud800", "key", {"value": "\ud800"}),
    )
    whole = dataclasses.replace(
        FULL_MESSAGE,
        tool="?",
        arguments={"list": ["?", {"deep": "?"}]},
        error=Failure("?", "key", {"value": "?"}),
    )
    assert stored(broken).message == whole


@given(st.binary())
@example(bytes(range(256)))
@settings(deadline=None)
def test_any_file_comes_back_exactly(data: bytes) -> None:
    file = File("ü 你.png", "image/png", data)
    assert stored(Conversation(Role.USER, "", files=(file,))).message.files == (file,)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda values: st.lists(values) | st.dictionaries(st.text(), values),
        max_leaves=10,
    )
)
@settings(deadline=None)
def test_any_json_value_comes_back_exactly(value: object) -> None:
    message = Conversation(Role.TOOL, "", arguments={"value": value}, outputs=({"value": value},))
    assert stored(message).message == message


@pytest.mark.parametrize("speed", [0.1 + 0.2, 1e-300, 1e300, math.inf])
def test_any_figure_comes_back_exactly(speed: float) -> None:
    metrics = Metrics(2**40, 0, 1, speed, speed)
    assert stored(Conversation(Role.ASSISTANT, "", metrics=metrics)).message.metrics == metrics


def test_a_point_in_time_comes_back_to_the_microsecond_and_in_any_zone() -> None:
    elsewhere = CREATED.astimezone(timezone(timedelta(hours=8)))
    assert stored(Conversation(Role.USER, ""), created=CREATED).created == CREATED
    assert stored(Conversation(Role.USER, ""), created=elsewhere).created == CREATED


def test_a_request_that_continued_a_message_comes_back() -> None:
    request = Request("model", continued=12)
    assert stored(Conversation(Role.ASSISTANT, "", request=request)).message.request == request


@pytest.mark.parametrize(
    "record",
    [
        changed(unknown=1),
        changed(request={"model": "m", "unknown": 1}),
        changed(files=[{"name": "n", "media_type": "t", "data": "", "unknown": 1}]),
        changed(role="emperor"),
        changed(ending="happily"),
        changed(content=None),
        json.dumps({**json.loads(changed()), "unknown": 1}),
        "{}",
        "",
    ],
)
def test_what_is_not_exactly_a_message_is_refused(record: str) -> None:
    with pytest.raises(ValidationError):
        Record.model_validate_json(record)
