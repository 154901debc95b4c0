"""The incremental decoder gives the text of all tokens, in whole characters, at any split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatglm3.decoder import IncrementalDecoder

TEXT = "Grüße, 你好 👩‍🚀!\n"  # characters of one to four bytes, and an emoji of several characters
INVALID = [
    b"\xff",
    b"a\x80b",
    b"\xe4\xbda",  # two bytes of three, then another character
    b"\xed\xa0\x80",  # a surrogate
    b"\xc0\xaf",  # an overlong "/"
    b"\xf0\x9f\x98",  # ends within a character
]


def decode_pieces(pieces: list[bytes]) -> list[str]:
    """What a decoder returns for tokens with these bytes, the last being its flush."""
    decoder = IncrementalDecoder(lambda token_id: pieces[token_id])
    return [decoder.decode(token_id) for token_id in range(len(pieces))] + [decoder.flush()]


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


@pytest.mark.parametrize("position", range(len(TEXT.encode()) + 1))
def test_text_cut_into_two_tokens_anywhere_is_whole_again(position: int) -> None:
    data = TEXT.encode()
    assert "".join(decode_pieces([data[:position], data[position:]])) == TEXT


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
def test_tokens_of_any_size_give_the_text(size: int) -> None:
    assert "".join(decode_pieces(cut(TEXT.encode(), size))) == TEXT


@pytest.mark.parametrize("character", "é你👩")
def test_a_character_is_shown_with_its_last_byte_and_not_before(character: str) -> None:
    *held, last = cut(character.encode(), 1)
    assert decode_pieces([*held, last]) == [""] * len(held) + [character, ""]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_piece_of_valid_text_has_a_replacement_character(size: int) -> None:
    assert not any("\ufffd" in piece for piece in decode_pieces(cut(TEXT.encode(), size)))


@pytest.mark.parametrize("data", INVALID)
def test_invalid_bytes_become_replacement_characters(data: bytes) -> None:
    assert "\ufffd" in data.decode(errors="replace") == "".join(decode_pieces(cut(data, 1)))


@given(st.lists(st.binary(max_size=6)))
def test_any_bytes_at_all_decode_as_a_whole_would(pieces: list[bytes]) -> None:
    assert "".join(decode_pieces(pieces)) == b"".join(pieces).decode(errors="replace")


def test_flush_gives_what_was_held_back_and_starts_afresh() -> None:
    decoder = IncrementalDecoder([b"\xe4\xbd", b"\xa0", b"a"].__getitem__)
    assert [decoder.decode(0), decoder.flush(), decoder.decode(2), decoder.flush()] == ["", "\ufffd", "a", ""]


def test_bytes_after_a_flush_do_not_complete_the_character_before_it() -> None:
    decoder = IncrementalDecoder([b"\xe4\xbd", b"\xa0"].__getitem__)
    decoder.decode(0)
    decoder.flush()
    assert decoder.decode(1) == "\ufffd"


def test_each_token_is_looked_up_once() -> None:
    looked_up: list[int] = []

    def token_bytes(token_id: int) -> bytes:
        looked_up.append(token_id)
        return TEXT.encode()[token_id : token_id + 1]

    decoder = IncrementalDecoder(token_bytes)
    for token_id in range(len(TEXT.encode())):
        decoder.decode(token_id)
    assert looked_up == list(range(len(TEXT.encode())))


def test_little_is_held_back_however_long_the_text() -> None:
    pieces = decode_pieces(cut(TEXT.encode() * 1000, 1))
    assert max(map(len, pieces)) == 1
