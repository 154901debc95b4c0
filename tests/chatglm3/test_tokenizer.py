"""ChatGLM3's tokenizer gives the original's ids, and no text ever becomes a special token."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor
from transformers import PreTrainedModel

from chatglm3 import ChatGLM3Tokenizer, CheckpointError
from chatglm3.tokenizer import SPECIAL_TOKENS

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "chat_input.json").read_text())["cases"]

# Text that contains the name of a special token, of SentencePiece's too.
LIKE_SPECIAL = [
    *SPECIAL_TOKENS,
    "</s>",
    "<s>",
    "<unk>",
    "<0x0A>",
    "sophgo",
    "people",
    "develop",
    "<|user|>\n",
]

TEXTS = [
    "",
    " ",
    "  two spaces, and at the end  ",
    "Hello, world!",
    "你好,世界 👩‍🚀",
    "a\tb\r\nc\n\n\nd",
    "\x00\x01\x07\x1b[31m\x7f\x85\u200b\u2028\ufeff",
    "NUL \x00 within",
    "e\u0301 and \ufffd",
]


@pytest.fixture(scope="session")
def small(tiny: tuple[PreTrainedModel, ChatGLM3Tokenizer]) -> ChatGLM3Tokenizer:
    return tiny[1]


@pytest.fixture(params=["small", "released_tokenizer"])
def tokenizer(request: pytest.FixtureRequest) -> ChatGLM3Tokenizer:
    """The test's own small tokenizer, and the released one where it is at hand."""
    found: ChatGLM3Tokenizer = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def sentencepiece(tiny_folder: Path) -> SentencePieceProcessor:
    return SentencePieceProcessor(model_file=str(tiny_folder / "tokenizer.model"))


def chat_input(tokenizer: ChatGLM3Tokenizer, case: dict[str, Any]) -> list[int]:
    ids: list[int] = tokenizer.build_chat_input(case["query"], case["history"], case.get("role", "user"))[
        "input_ids"
    ][0].tolist()
    return ids


# The original's figures


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["query"][:20])
def test_conversations_get_the_originals_ids(
    released_tokenizer: ChatGLM3Tokenizer, case: dict[str, Any]
) -> None:
    assert chat_input(released_tokenizer, case) == case["input_ids"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["query"][:20])
def test_ids_are_decoded_as_by_the_original(
    released_tokenizer: ChatGLM3Tokenizer, case: dict[str, Any]
) -> None:
    assert released_tokenizer.decode(case["input_ids"]) == case["decoded"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["query"][:20])
def test_the_small_tokenizer_lays_out_the_same_conversations(
    small: ChatGLM3Tokenizer, case: dict[str, Any]
) -> None:
    assert small.decode(chat_input(small, case)) == case["decoded"]


def test_the_released_vocabulary_is_the_published_one(released_tokenizer: ChatGLM3Tokenizer) -> None:
    assert [released_tokenizer.get_command(token) for token in SPECIAL_TOKENS] == [*range(64789, 64798)]
    assert released_tokenizer.stop_token_ids == {2, 64795, 64797}
    assert (released_tokenizer.vocab_size, released_tokenizer.pad_token_id) == (64798, 0)


# Text is text


@pytest.mark.parametrize("text", LIKE_SPECIAL)
def test_special_tokens_in_text_stay_text(tokenizer: ChatGLM3Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert not {*ids} & (tokenizer.special_token_ids | tokenizer.stop_token_ids)
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("text", LIKE_SPECIAL)
def test_a_message_has_one_special_token_whatever_it_says(tokenizer: ChatGLM3Tokenizer, text: str) -> None:
    ids = tokenizer.encode_message("assistant", text, text)
    assert [i for i in ids if i in tokenizer.special_token_ids] == [tokenizer.assistant_token_id]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_text_survives_encoding_and_decoding(tokenizer: ChatGLM3Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=st.text(st.characters(exclude_characters="▁", exclude_categories=("Cs",))))
def test_any_text_survives_encoding_and_decoding(small: ChatGLM3Tokenizer, text: str) -> None:
    ids = small.encode(text)
    assert small.decode(ids) == text
    assert all(3 <= token_id < small.get_command("[MASK]") for token_id in ids)


@given(text=st.text())
def test_ids_and_text_are_those_of_sentencepiece(
    small: ChatGLM3Tokenizer, sentencepiece: SentencePieceProcessor, text: str
) -> None:
    ids = sentencepiece.encode(text)
    assert small.encode(text) == ids
    assert small.decode(ids) == sentencepiece.decode(ids)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\ud83d\ude00"])
def test_a_lone_surrogate_becomes_a_question_mark(tokenizer: ChatGLM3Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text.encode(errors="replace").decode()


@pytest.mark.parametrize("text", ["x" * 100_000, "你好 sop " * 14_286], ids=["one letter", "words"])
def test_a_hundred_thousand_characters_survive(tokenizer: ChatGLM3Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


# Streams


@pytest.mark.parametrize("text", ["Hello, world!", "你好 👩‍🚀 \x00", "🚀"])
def test_a_stream_gives_the_text_after_a_space(tokenizer: ChatGLM3Tokenizer, text: str) -> None:
    decoder = tokenizer.incremental_decoder()
    pieces = [decoder.decode(token_id) for token_id in tokenizer.encode(text)]
    assert "".join(pieces) + decoder.flush() == " " + text
    assert "\ufffd" not in "".join(pieces)


def test_a_tensor_of_ids_can_be_decoded(small: ChatGLM3Tokenizer) -> None:
    assert small.decode(torch.tensor(small.encode("Hello"))) == "Hello"


def test_special_tokens_are_decoded_as_their_names_and_padding_as_nothing(small: ChatGLM3Tokenizer) -> None:
    assert small.decode([small.get_command("sop"), small.vocab_size, small.pad_token_id, 2]) == "sop"


# Commands and messages


def test_commands_are_numbered_after_the_pieces_in_order(
    small: ChatGLM3Tokenizer, sentencepiece: SentencePieceProcessor
) -> None:
    first = sentencepiece.vocab_size()
    assert [small.get_command(token) for token in SPECIAL_TOKENS] == [*range(first, first + 9)]
    assert small.vocab_size == first + 9


@pytest.mark.parametrize("text", ["", "user", "<|tool|>", "hello", "</s>"])
def test_other_text_is_no_command(small: ChatGLM3Tokenizer, text: str) -> None:
    with pytest.raises(ValueError, match="is not a special token"):
        small.get_command(text)


def test_tools_are_appended_as_indented_json_that_is_not_escaped(small: ChatGLM3Tokenizer) -> None:
    system = {"role": "system", "content": "Tools:", "tools": [{"name": "天气"}]}
    ids = small.build_chat_input("hi", [system])["input_ids"][0]
    expected = '<|system|> \n Tools:\n[\n    {\n        "name": "天气"\n    }\n]<|user|>'
    assert expected in small.decode(ids)


def test_the_models_input_is_a_batch_of_one(small: ChatGLM3Tokenizer) -> None:
    inputs = small.build_chat_input("hi")
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (1, len(inputs["input_ids"][0]))
    assert inputs["input_ids"].dtype == torch.long
    assert inputs["attention_mask"].all()


def test_the_history_is_not_changed(small: ChatGLM3Tokenizer) -> None:
    history = [*CASES[3]["history"]]
    before = copy.deepcopy(history)
    small.build_chat_input("hi", history)
    assert history == before


def test_the_same_message_is_encoded_alike_each_time(small: ChatGLM3Tokenizer) -> None:
    first = [*small.encode_message("user", "", "hello")]
    assert [*small.encode_message("user", "", "hello")] == first


@pytest.mark.parametrize("role", ["tool", "", "<|user|>"])
def test_an_unknown_role_is_refused(small: ChatGLM3Tokenizer, role: str) -> None:
    with pytest.raises(ValueError, match="role"):
        small.build_chat_input("hi", role=role)


# Files


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"nonsense", b"version https://git-lfs.github.com/spec/v1\n"],
    ids=["empty", "a newline", "nonsense", "Git LFS pointer"],
)
def test_a_file_that_is_no_sentencepiece_model_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.model").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"broken\.model is not a SentencePiece model"):
        ChatGLM3Tokenizer(tmp_path / "broken.model")


def test_a_truncated_file_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    whole = (tiny_folder / "tokenizer.model").read_bytes()
    (tmp_path / "half.model").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"half\.model"):
        ChatGLM3Tokenizer(tmp_path / "half.model")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing\.model cannot be read: No such file"):
        ChatGLM3Tokenizer(tmp_path / "missing.model")


def test_a_folder_is_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        ChatGLM3Tokenizer(tmp_path)
