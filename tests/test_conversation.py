"""Messages: what the model gets of them, and what people see."""

import json

import pytest

from conversation import Conversation, Role, fenced, postprocess_text, preprocess_text, to_messages

TOOLS = [{"name": "get_weather", "description": "天气", "parameters": {}}]


def test_a_role_writes_the_special_token_of_who_speaks() -> None:
    assert [str(role) for role in Role] == [
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|assistant|>",
        "<|assistant|>",
        "<|observation|>",
    ]


def test_a_conversation_is_written_in_the_models_format() -> None:
    history = [
        Conversation(Role.USER, "hi"),
        Conversation(Role.TOOL, "call", tool="get_weather"),
        Conversation(Role.OBSERVATION, "22"),
        Conversation(Role.INTERPRETER, "code"),
    ]
    assert preprocess_text("Be kind.", None, history) == (
        "<|system|>\nBe kind.<|user|>\nhi<|assistant|>get_weather\ncall"
        "<|observation|>\n22<|assistant|>interpreter\ncode<|assistant|>\n"
    )


def test_tools_stand_in_the_system_prompt_as_json_in_their_own_characters() -> None:
    prompt = preprocess_text("ignored", TOOLS, [])
    start = "<|system|>\nAnswer the following questions as best as you can. "
    assert prompt.startswith(start + "You have access to the following tools:\n[")
    assert json.dumps(TOOLS, indent=4, ensure_ascii=False) in prompt


def test_messages_keep_the_header_of_calls() -> None:
    history = [Conversation(Role.TOOL, "call", tool="get_weather"), Conversation(Role.INTERPRETER, "code")]
    system, *messages = to_messages(None, TOOLS, history)
    assert system["tools"] == TOOLS
    assert [(message["role"], message["metadata"]) for message in messages] == [
        ("assistant", "get_weather"),
        ("assistant", "interpreter"),
    ]


def test_an_answer_that_failed_before_its_first_word_is_not_sent() -> None:
    history = [Conversation(Role.USER, "hi"), Conversation(Role.ASSISTANT, "", ending="failed")]
    assert [message["role"] for message in to_messages(None, None, history)] == ["user"]


def test_an_empty_system_prompt_is_no_message() -> None:
    assert to_messages("", None, []) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"So \(x^2\) and \( y \) hold.", "So $x^2$ and $y$ hold."),
        (r"\[ \int_0^1 x\,dx \]", r"$$ \int_0^1 x\,dx $$"),
        ("Already $x^2$ here", "Already $x^2$ here"),
        ("It costs $5 or $6.", r"It costs \$5 or \$6."),
        ("<|assistant|>Hello<|user|>", "Hello"),
        ("\n Hello \n", "Hello"),
        ("![logo](https://example.org/a.png)", r"\![logo](https://example.org/a.png)"),
        (":red[alarm] :material/bolt: x[a:b:c]", r"\:red[alarm] \:material/bolt: x[a\:b:c]"),
        ("at 10:30:45", "at 10:30:45"),
    ],
)
def test_a_models_text_becomes_harmless_markdown(text: str, shown: str) -> None:
    assert postprocess_text(text) == shown


@pytest.mark.parametrize(
    "code",
    [
        r"`re.sub(r'\(', '$5 ', x)`",
        "```python\nprint(r'\\[a\\]', '<|user|>')\n![x](y)\n```",
        "~~~\n\\(x\\)\n~~~",
        "``a ` \\(b\\)``",
        "```python\nunclosed \\(x\\)",
        "````\n```\n\\(x\\)\n```\n````",
    ],
)
def test_code_is_shown_as_it_is(code: str) -> None:
    assert postprocess_text(code) == code


def test_text_around_code_is_still_changed() -> None:
    assert postprocess_text(r"\(a\) `\(b\)` \(c\)") == r"$a$ `\(b\)` $c$"


def test_an_unmatched_backtick_does_not_hide_the_paragraphs_after_it() -> None:
    assert postprocess_text("a ` b\n\n\\(c\\) ` d") == "a ` b\n\n$c$ ` d"


def test_a_question_keeps_its_line_breaks_but_its_code_unchanged() -> None:
    message = Conversation(Role.USER, "one\ntwo\n\n```\na\nb\n```")
    assert message.get_text() == "one  \ntwo\n\n```\na\nb\n```"


def test_an_observation_is_fenced_whatever_is_in_it() -> None:
    text = Conversation(Role.OBSERVATION, "```\nhostile\n```\n# no heading").get_text()
    assert text == "Observation:\n" + fenced("```\nhostile\n```\n# no heading")
    assert "````\n```\nhostile" in text


def test_a_message_is_a_value() -> None:
    assert Conversation(Role.USER, "hi") == Conversation(Role.USER, "hi")
    with pytest.raises(AttributeError):
        Conversation(Role.USER, "hi").content = "other"  # type: ignore[misc]
