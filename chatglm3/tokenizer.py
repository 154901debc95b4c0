"""ChatGLM3's tokenizer: SentencePiece, and nine special tokens after its pieces.

Not a Transformers tokenizer: those match special tokens inside text, and the
format's defence is that no text ever becomes one of the nine.
"""

from collections.abc import Sequence
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from sentencepiece import SentencePieceProcessor
from transformers import BatchEncoding

from chatglm3.decoder import IncrementalDecoder
from chatglm3.errors import CheckpointError
from chatglm3.prompt import Message, encode_conversation, without_surrogates

# In the order of their ids, the first of which is the number of pieces
# (64789…64797 for the released models).
SPECIAL_TOKENS = (
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "sop",
    "eop",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
)

_SPACE = "▁"  # SentencePiece's mark for a space


class ChatGLM3Tokenizer:
    """The tokenizer of ChatGLM3-6B, -Base, -32K and -128K.

    `vocab_file` is the checkpoint's `tokenizer.model`. Raises CheckpointError
    when it is missing or is no SentencePiece model.
    """

    default_system_prompt = (
        "You are ChatGLM3, a large language model trained by Zhipu.AI. "
        "Follow the user's instructions carefully. Respond using markdown."
    )

    def __init__(self, vocab_file: str | PathLike[str]) -> None:
        try:
            model = Path(vocab_file).read_bytes()
            self._pieces = SentencePieceProcessor(model_proto=model)
        except OSError as error:
            raise CheckpointError(f"The tokenizer {vocab_file} cannot be read: {error.strerror}.") from error
        except RuntimeError as error:
            raise CheckpointError(f"The tokenizer {vocab_file} is not a SentencePiece model.") from error
        if not model:  # which SentencePiece accepts
            raise CheckpointError(f"The tokenizer {vocab_file} is not a SentencePiece model: it is empty.")
        self._first_special = self._pieces.vocab_size()
        self._commands = {token: self._first_special + i for i, token in enumerate(SPECIAL_TOKENS)}
        # A history only grows at its end, so each message is encoded once.
        self._encode_message = lru_cache(maxsize=2048)(self._encode_message_now)

    # Vocabulary

    @property
    def vocab_size(self) -> int:
        """Pieces and special tokens; the model's padded vocabulary is larger."""
        return self._first_special + len(SPECIAL_TOKENS)

    @property
    def eos_token_id(self) -> int:
        return int(self._pieces.eos_id())

    @property
    def pad_token_id(self) -> int:
        return int(self._pieces.unk_id())  # as in the original, which has no piece of its own for it

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """An answer ends at the end of text, or where somebody else would speak."""
        return frozenset({self.eos_token_id, self._commands["<|user|>"], self._commands["<|observation|>"]})

    @property
    def special_token_ids(self) -> frozenset[int]:
        return frozenset(self._commands.values())

    @property
    def assistant_token_id(self) -> int:
        return self._commands["<|assistant|>"]

    def get_command(self, token: str) -> int:
        """The id of a special token such as "<|user|>"; raises ValueError for any other text."""
        if token not in self._commands:
            raise ValueError(f"{token!r} is not a special token; there are {', '.join(SPECIAL_TOKENS)}.")
        return self._commands[token]

    # Text

    def encode(self, text: str) -> list[int]:
        """The pieces of a text, with SentencePiece's dummy prefix; never a special token."""
        return [int(i) for i in self._pieces.encode(without_surrogates(text))]

    def decode(self, token_ids: Sequence[int] | torch.Tensor) -> str:
        """The text of some ids, special tokens as their names."""
        ids = token_ids.tolist() if isinstance(token_ids, torch.Tensor) else list(token_ids)
        decoder = IncrementalDecoder(self._token_bytes)
        text = "".join(map(decoder.decode, ids)) + decoder.flush()
        has_dummy_prefix = bool(ids) and self._piece(ids[0]).startswith(_SPACE)
        return text[1:] if has_dummy_prefix else text

    def incremental_decoder(self) -> IncrementalDecoder:
        """A decoder of a stream of ids, which are taken to be in the middle of a text."""
        return IncrementalDecoder(self._token_bytes)

    def _piece(self, token_id: int) -> str:
        if 0 <= token_id < self._first_special:
            return str(self._pieces.id_to_piece(token_id))
        index = token_id - self._first_special
        return SPECIAL_TOKENS[index] if 0 <= index < len(SPECIAL_TOKENS) else ""  # "": the model's padding

    def _token_bytes(self, token_id: int) -> bytes:
        piece = self._piece(token_id)
        if token_id >= self._first_special:
            return piece.encode()
        if self._pieces.is_byte(token_id):  # "<0xE4>"
            return bytes([int(piece[3:5], 16)])
        if self._pieces.is_control(token_id) or self._pieces.is_unknown(token_id):
            return b""
        return piece.replace(_SPACE, " ").encode()

    # Conversations

    def prompt_start(self) -> list[int]:
        return [self._commands["[gMASK]"], self._commands["sop"]]

    def answer_start(self) -> list[int]:
        return [self.assistant_token_id]

    def message_end(self) -> list[int]:
        return []  # the next role's token ends a message

    def encode_message(self, role: str, metadata: str, content: str) -> Sequence[int]:
        """`<|role|>metadata\\n content`, as ids."""
        return self._encode_message(role, metadata, content)

    def _encode_message_now(self, role: str, metadata: str, content: str) -> tuple[int, ...]:
        return (self.get_command(f"<|{role}|>"), *self.encode(f"{metadata}\n"), *self.encode(content))

    def build_chat_input(
        self, query: str, history: Sequence[Message] | None = None, role: str = "user"
    ) -> BatchEncoding:
        """The model's input for a question after a history, as the original's.

        Returns `input_ids` and `attention_mask`, both [1, length].
        """
        messages: list[dict[str, Any] | Message] = [*(history or ()), {"role": role, "content": query}]
        input_ids = torch.tensor([encode_conversation(self, messages)])
        return BatchEncoding({"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)})
