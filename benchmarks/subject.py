"""What the benchmark runs on: a model, its tokenizer, and the machine's description.

Not measurements: those are in `decode`. Nothing here needs Streamlit or pydantic.
"""

import argparse
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from transformers import GenerationConfig, GlmForCausalLM, PreTrainedModel

import chatglm3
from chatglm3.architecture import glm_config
from chatglm3.attention import NAME as GROUPED
from chatglm3.attention import use_grouped_attention
from chatglm3.decoder import IncrementalDecoder
from chatglm3.embedded import load_embedded
from chatglm3.events import Finished
from chatglm3.loading import choose_device_map, choose_dtype
from chatglm3.prompt import ROLES, ChatTokenizer, encode_conversation
from client import LocalClient, ModelInfo
from conversation import Conversation, Role, to_messages

GREEDY: dict[str, Any] = {"do_sample": False}
QUESTION = [Conversation(Role.USER, "Tell me a long story about the keeper of a lighthouse.")]

# zai-org/chatglm3-6b's config.json, as far as it sets the model's size.
CONFIG_6B: dict[str, Any] = {
    "padded_vocab_size": 65024,
    "hidden_size": 4096,
    "ffn_hidden_size": 13696,
    "num_layers": 28,
    "num_attention_heads": 32,
    "multi_query_group_num": 2,
    "kv_channels": 128,
    "seq_length": 8192,
    "layernorm_epsilon": 1e-5,
    "add_qkv_bias": True,
}
SMALL = {"hidden_size": 512, "ffn_hidden_size": 1712, "num_layers": 4, "num_attention_heads": 4}


class CharacterTokenizer:
    """A token for each character: the tokenizer of random models. It has no stop tokens."""

    default_system_prompt = ""
    stop_token_ids: frozenset[int] = frozenset()
    special_token_ids = frozenset(range(1, 1 + len(ROLES)))  # control characters, which no text here has
    assistant_token_id = 1 + ROLES.index("assistant")

    def encode(self, text: str) -> list[int]:
        return [ord(character) % int(CONFIG_6B["padded_vocab_size"]) for character in text]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(map(chr, token_ids))

    def incremental_decoder(self) -> IncrementalDecoder:
        return IncrementalDecoder(lambda token_id: chr(token_id).encode(errors="replace"))

    def prompt_start(self) -> list[int]:
        return []

    def message_end(self) -> list[int]:
        return []

    def answer_start(self) -> list[int]:
        return [self.assistant_token_id]

    def encode_message(self, role: str, metadata: str, content: str) -> Sequence[int]:
        return [1 + ROLES.index(role), *self.encode(f"{metadata}\n{content}")]


class NeverStopping:
    """Another tokenizer without its stop tokens, so that each way decodes exactly as many tokens."""

    stop_token_ids: frozenset[int] = frozenset()

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


@dataclass(frozen=True)
class Subject:
    """A model with its tokenizer; nothing ends its answers early."""

    model: PreTrainedModel
    tokenizer: ChatTokenizer

    @property
    def prompt_ids(self) -> list[int]:
        """The short prompt from which all ways of decoding start."""
        return encode_conversation(self.tokenizer, to_messages(None, None, QUESTION))

    def client(self, kv_cache_bytes: int = 0) -> LocalClient:
        """A new client; it forgets what it has read unless told not to."""
        info = ModelInfo("", "", "", 0, self.model.config.max_position_embeddings, "")
        return LocalClient(self.model, self.tokenizer, info, kv_cache_bytes)

    def run_client(self, tokens: int, **parameters: Any) -> None:
        """Decode with a new client, from the question to the last event."""
        *_, last = self.client().generate_stream(None, None, QUESTION, max_new_tokens=tokens, **parameters)
        if not isinstance(last, Finished) or last.usage.new_tokens != tokens:
            raise RuntimeError(f"The client did not decode {tokens} tokens: {last}.")


def load(arguments: argparse.Namespace) -> Subject:
    """The model that the command line asks for."""
    model, tokenizer = _load(arguments)
    if arguments.attention == GROUPED:
        use_grouped_attention(model)
    elif arguments.attention:
        model.set_attn_implementation(arguments.attention)
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]  # no stop tokens here either
    return Subject(model, cast(ChatTokenizer, NeverStopping(tokenizer)))


def _load(arguments: argparse.Namespace) -> tuple[PreTrainedModel, ChatTokenizer]:
    device, path = arguments.device, arguments.tokenizer
    dtype = getattr(torch, arguments.dtype) if arguments.dtype else None
    if arguments.model == "embedded":
        return load_embedded(arguments.cache or _default_cache(), device=device, dtype=dtype)
    if arguments.model:
        return chatglm3.load(arguments.model, device=device, dtype=dtype, tokenizer_path=path)
    device_map = choose_device_map(device)
    place = "cuda:0" if device_map == "auto" else device_map[""]
    tokenizer = chatglm3.ChatGLM3Tokenizer(path) if path else CharacterTokenizer()
    size = SMALL if arguments.small_random else {}
    return random_model(size, place, dtype or choose_dtype(device_map, None)), tokenizer


def random_model(size: Mapping[str, int], device: str, dtype: torch.dtype) -> PreTrainedModel:
    """A ChatGLM3 of ChatGLM3-6B's size, but for `size`; its random weights are made where they stay."""
    config = glm_config({**CONFIG_6B, **size}, stop_token_ids=[2])
    with torch.device(device):
        model: PreTrainedModel = GlmForCausalLM._from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
    model.train(False)
    if model.device.type == "cpu":  # as `chatglm3.load`
        use_grouped_attention(model)
    return model


def _default_cache() -> Path:
    """The app's own, without pydantic, which its settings need."""
    from platformdirs import user_cache_path

    return user_cache_path("chatglm3-app")


def describe(model: PreTrainedModel) -> str:
    """The machine, the model and the versions, in one line."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    parts = [
        *([torch.cuda.get_device_name(model.device)] if model.device.type == "cuda" else []),
        f"{names[0] if names else platform.processor()} ({os.cpu_count()} cores)",
        f"{torch.get_num_threads()} threads",
        f"{model.num_parameters() / 1e9:.2f} billion parameters",
        f"{str(model.dtype).removeprefix('torch.')} on {model.device}",
        f"{model.config._attn_implementation} attention",
        f"Python {platform.python_version()}",
        f"torch {torch.__version__}",
        f"transformers {transformers.__version__}",
    ]
    return ", ".join(parts)
