"""ChatML, spoken by the embedded SmolLM2: the same interface as ChatGLM3Tokenizer.

ChatGLM3's `<|role|>metadata\\n content` stands as
`<|im_start|>role metadata\\ncontent<|im_end|>\\n`, one to one, so that
everything above token ids is shared. Tokens: byte-level BPE.
"""

from collections.abc import Sequence
from functools import lru_cache
from os import PathLike

from tokenizers import Tokenizer

from chatglm3.decoder import IncrementalDecoder
from chatglm3.errors import CheckpointError
from chatglm3.prompt import without_surrogates


def _bytes_of_characters() -> dict[str, int]:
    """GPT-2's table: each byte is written as one printable character.

    The 188 printable bytes of Latin-1 stand for themselves, the others, in
    order, for U+0100 and on (openai/gpt-2, `bytes_to_unicode`).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(0x100 + i): byte for i, byte in enumerate(others)}


class ChatMLTokenizer:
    """A byte-level BPE tokenizer with ChatML's two special tokens.

    `tokenizer_file` is a `tokenizer.json` in which no added token is matched in
    text. Raises CheckpointError when it cannot be read.
    """

    default_system_prompt = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

    def __init__(self, tokenizer_file: str | PathLike[str]) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"The tokenizer {tokenizer_file} cannot be read: {error}.") from error
        self._bytes = _bytes_of_characters()
        self._start = self._special("<|im_start|>")
        self._end = self._special("<|im_end|>")
        self._end_of_text = self._special("<|endoftext|>")
        self._encode_message = lru_cache(maxsize=2048)(self._encode_message_now)

    def _special(self, token: str) -> int:
        token_id = self._tokenizer.token_to_id(token)
        if token_id is None:
            raise CheckpointError(f"The tokenizer has no {token} token, so it does not speak ChatML.")
        return int(token_id)

    @property
    def vocab_size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    @property
    def eos_token_id(self) -> int:
        return self._end

    @property
    def pad_token_id(self) -> int:
        return self._end

    @property
    def stop_token_ids(self) -> frozenset[int]:
        return frozenset({self._end, self._end_of_text})

    @property
    def special_token_ids(self) -> frozenset[int]:
        return frozenset({self._start, self._end, self._end_of_text})

    @property
    def assistant_token_id(self) -> int:
        return self._start

    def encode(self, text: str) -> list[int]:
        """The tokens of a text; never a special token."""
        return list(self._tokenizer.encode(without_surrogates(text), add_special_tokens=False).ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of some ids, special tokens as their names."""
        decoder = self.incremental_decoder()
        return "".join(map(decoder.decode, token_ids)) + decoder.flush()

    def incremental_decoder(self) -> IncrementalDecoder:
        return IncrementalDecoder(self._token_bytes)

    def _token_bytes(self, token_id: int) -> bytes:
        token = self._tokenizer.id_to_token(token_id) or ""
        if token_id in self.special_token_ids:
            return token.encode()
        return bytes(self._bytes[character] for character in token)

    def prompt_start(self) -> list[int]:
        return []

    def answer_start(self) -> list[int]:
        # Without the newline: as in ChatGLM3, the model writes its header line itself.
        return [self._start, *self.encode("assistant")]

    def message_end(self) -> list[int]:
        return [self._end, *self.encode("\n")]

    def encode_message(self, role: str, metadata: str, content: str) -> Sequence[int]:
        """`<|im_start|>role metadata\\ncontent<|im_end|>\\n`, as ids."""
        return self._encode_message(role, metadata, content)

    def _encode_message_now(self, role: str, metadata: str, content: str) -> tuple[int, ...]:
        header = f"{role} {metadata}\n" if metadata else f"{role}\n"
        return (self._start, *self.encode(header), *self.encode(content), self._end, *self.encode("\n"))
