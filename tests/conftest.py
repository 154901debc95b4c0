"""What the tests share: small real models, and where the released model's own files may lie."""

from pathlib import Path

import pytest
from transformers import PreTrainedModel

import chatglm3
from chatglm3 import ChatGLM3Tokenizer
from tests.tiny import make_checkpoint

# The released model's tokenizer and configuration; not part of this repository.
RELEASED = Path(__file__).parents[2] / "shared" / "data" / "chatglm3-6b"


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random ChatGLM3 checkpoint; not to be changed."""
    return make_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> tuple[PreTrainedModel, ChatGLM3Tokenizer]:
    """The small random ChatGLM3 in float32, and its tokenizer."""
    import torch

    return chatglm3.load(tiny_folder, device="cpu", dtype=torch.float32)


@pytest.fixture(scope="session")
def released_tokenizer() -> ChatGLM3Tokenizer:
    """The released model's tokenizer, where it is at hand."""
    if not RELEASED.is_dir():
        pytest.skip(f"the released model's files are not in {RELEASED}")
    return ChatGLM3Tokenizer(RELEASED / "tokenizer.model")
