"""Handwritten stand-ins, injected where the real thing would hide what a test looks at."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from chatglm3.decoder import IncrementalDecoder

_FIRST_SPECIAL = 0x110000  # after all code points
_SPECIAL = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "</s>")


class CharacterTokenizer:
    """A ChatTokenizer in which each character is one token, so that sizes are plain to see."""

    default_system_prompt = "Answer."
    special_token_ids = frozenset(range(_FIRST_SPECIAL, _FIRST_SPECIAL + len(_SPECIAL)))
    assistant_token_id = _FIRST_SPECIAL + 2
    stop_token_ids = frozenset({_FIRST_SPECIAL + 1, _FIRST_SPECIAL + 3, _FIRST_SPECIAL + 4})

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def decode(self, token_ids: Sequence[int]) -> str:
        return b"".join(map(self._token_bytes, token_ids)).decode()

    def incremental_decoder(self) -> IncrementalDecoder:
        return IncrementalDecoder(self._token_bytes)

    def prompt_start(self) -> list[int]:
        return []

    def answer_start(self) -> list[int]:
        return [self.assistant_token_id]

    def message_end(self) -> list[int]:
        return []

    def encode_message(self, role: str, metadata: str, content: str) -> list[int]:
        return [_FIRST_SPECIAL + _SPECIAL.index(f"<|{role}|>"), *self.encode(f"{metadata}\n{content}")]

    def _token_bytes(self, token_id: int) -> bytes:
        special = token_id in self.special_token_ids
        return (_SPECIAL[token_id - _FIRST_SPECIAL] if special else chr(token_id)).encode()


class CountingModel:
    """A model that notes how many tokens each of its runs reads."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self.device = model.device
        self.read: list[int] = []

    def __call__(self, input_ids: torch.Tensor, **options: Any) -> Any:
        self.read.append(input_ids.shape[1])
        return self._model(input_ids, **options)
