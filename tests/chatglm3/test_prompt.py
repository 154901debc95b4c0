"""Conversations become prompts: in order, within the limit, and alike from turn to turn."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatglm3.errors import PromptTooLongError
from chatglm3.prompt import build_prompt, encode_conversation, message_content, without_surrogates
from tests.chatglm3.fakes import CharacterTokenizer

TOKENIZER = CharacterTokenizer()
SYSTEM = {"role": "system", "content": "s" * 8}  # 10 tokens
NO_LIMIT = 10**9


def turn(name: str, size: int = 20) -> list[dict[str, Any]]:
    """A question and its answer, of `size` tokens together, 5 at the least."""
    return [
        {"role": "user", "content": name},
        {"role": "assistant", "metadata": "", "content": "a" * (size - 4 - len(name))},
    ]


def text(messages: list[dict[str, Any]], limit: int) -> str:
    return TOKENIZER.decode(build_prompt(TOKENIZER, messages, limit).token_ids)


def test_a_conversation_that_fits_is_kept_whole() -> None:
    messages = [SYSTEM, *turn("1"), *turn("2")]
    prompt = build_prompt(TOKENIZER, messages, len(encode_conversation(TOKENIZER, messages)))
    assert (prompt.token_ids, prompt.left_out) == (encode_conversation(TOKENIZER, messages), 0)


def test_the_oldest_turn_is_left_out_first() -> None:
    messages = [SYSTEM, *turn("1"), *turn("2"), *turn("3")]
    limit = len(encode_conversation(TOKENIZER, messages)) - 1
    assert text(messages, limit) == text([SYSTEM, *turn("2"), *turn("3")], NO_LIMIT)


def test_a_turn_is_left_out_with_its_calls_and_observations() -> None:
    call = {"role": "assistant", "metadata": "get_weather", "content": "call"}
    observation = {"role": "observation", "content": "22 degrees"}
    messages = [SYSTEM, *turn("1"), call, observation, *turn("2")]
    prompt = build_prompt(TOKENIZER, messages, 40)
    assert prompt.token_ids == encode_conversation(TOKENIZER, [SYSTEM, *turn("2")])
    assert prompt.left_out == 4


def test_an_answer_is_never_separated_from_its_question() -> None:
    messages = [SYSTEM, *turn("1"), *turn("2"), *turn("3"), *turn("4")]
    for limit in range(31, 95):
        kept = text(messages, limit).removeprefix(text([SYSTEM], NO_LIMIT).removesuffix("<|assistant|>"))
        assert kept.startswith("<|user|>")


@pytest.mark.parametrize("system", [[SYSTEM], []])
def test_the_system_message_and_the_last_turn_always_stay(system: list[dict[str, Any]]) -> None:
    limit = len(encode_conversation(TOKENIZER, [*system, *turn("last")]))
    messages = [*system, *turn("1", 500), *turn("2"), *turn("last")]
    assert text(messages, limit) == text([*system, *turn("last")], NO_LIMIT)


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "q" * 50}],
        [*turn("1"), {"role": "user", "content": "q" * 50}],
        [{"role": "system", "content": "s" * 50}, {"role": "user", "content": "q"}],
        [{"role": "system", "content": "s" * 50}],
        [{"role": "user", "content": "q"}, {"role": "observation", "content": "o" * 50}],
    ],
    ids=["first question", "last question", "system and question", "system alone", "observation"],
)
def test_what_must_stay_and_does_not_fit_is_too_long(messages: list[dict[str, Any]]) -> None:
    with pytest.raises(PromptTooLongError):
        build_prompt(TOKENIZER, messages, 50)


def test_the_sentence_of_a_prompt_too_long_says_how_long_and_what_to_do() -> None:
    with pytest.raises(PromptTooLongError, match=r"takes 2,003 tokens.*can take 1,000 here.*Shorten it"):
        build_prompt(TOKENIZER, [{"role": "user", "content": "q" * 2000}], 1000)


def test_tools_count_towards_the_limit() -> None:
    system = {"role": "system", "content": "", "tools": [{"name": "get_weather"}]}
    with pytest.raises(PromptTooLongError):
        build_prompt(TOKENIZER, [system, {"role": "user", "content": "q"}], 30)


@given(st.lists(st.integers(5, 200), min_size=1, max_size=30), st.integers(211, 1000))
def test_every_prompt_is_within_the_limit_and_ends_with_the_last_turns(sizes: list[int], limit: int) -> None:
    messages = [message for i, size in enumerate(sizes) for message in turn(str(i % 10), size)]
    prompt = build_prompt(TOKENIZER, [SYSTEM, *messages], limit)
    kept = messages[prompt.left_out :]
    assert len(prompt.token_ids) <= limit
    assert prompt.token_ids == encode_conversation(TOKENIZER, [SYSTEM, *kept])


def test_to_go_on_with_an_answer_it_is_left_open() -> None:
    messages = [SYSTEM, *turn("1"), *turn("2")]
    prompt = build_prompt(TOKENIZER, messages, NO_LIMIT, go_on=True)
    assert TOKENIZER.decode(prompt.token_ids) == text(messages, NO_LIMIT).removesuffix("<|assistant|>")


def test_prompts_have_the_same_digest_only_if_they_are_the_same() -> None:
    one, other = (build_prompt(TOKENIZER, [SYSTEM, *turn(name)], NO_LIMIT) for name in "12")
    assert one.digest == build_prompt(TOKENIZER, [SYSTEM, *turn("1")], NO_LIMIT).digest != other.digest


def test_after_an_overflow_most_prompts_begin_with_the_one_before() -> None:
    messages = [SYSTEM, *(message for i in range(100) for message in turn(str(i % 10)))]
    prompts = [build_prompt(TOKENIZER, messages[:n], 1000).token_ids for n in range(3, 202, 2)]
    # All but <|assistant|> at the end.
    moved = sum(after[: len(before) - 1] != before[:-1] for before, after in pairwise(prompts))
    assert 1 <= moved <= 5  # 50 turns fit, and a quarter of them is dropped at once


def test_a_growing_last_turn_does_not_move_the_start() -> None:
    messages = [SYSTEM, *(message for i in range(8) for message in turn(str(i)))]  # 10 + 8 * 20 tokens
    start = build_prompt(TOKENIZER, messages, 131)
    observation = {"role": "observation", "content": "22 degrees"}
    grown = build_prompt(TOKENIZER, [*messages, observation], 131)
    assert grown.left_out == start.left_out > 0
    assert grown.token_ids[: len(start.token_ids) - 1] == start.token_ids[:-1]


@pytest.mark.parametrize("role", ["", "tool", "User", "<|user|>", "assistant "])
def test_an_unknown_role_is_refused_by_name(role: str) -> None:
    with pytest.raises(ValueError, match=f"'{role}'".replace("|", r"\|")):
        encode_conversation(TOKENIZER, [{"role": role, "content": "hi"}])


def test_tools_are_appended_as_indented_json_that_is_not_escaped() -> None:
    tools = [{"name": "get_weather", "description": "查询天气"}]
    content = message_content({"role": "system", "content": "Tools:", "tools": tools})
    assert content.startswith(
        'Tools:\n[\n    {\n        "name": "get_weather",\n        "description": "查询天气"\n'
    )
    assert json.loads(content.removeprefix("Tools:")) == tools


@pytest.mark.parametrize("tools", [None, []])
def test_a_system_message_with_no_tools_is_its_content(tools: list[Any] | None) -> None:
    assert message_content({"role": "system", "content": "Answer.", "tools": tools}) == "Answer."


def test_only_a_system_message_shows_tools() -> None:
    assert message_content({"role": "user", "content": "Hi", "tools": [{"name": "a"}]}) == "Hi"


@given(st.text(st.characters(exclude_categories=())))
def test_text_without_surrogates_can_be_encoded_and_is_otherwise_the_same(raw: str) -> None:
    expected = "".join("?" if "\ud800" <= character <= "\udfff" else character for character in raw)
    assert without_surrogates(raw).encode() == expected.encode()
