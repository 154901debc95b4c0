"""ChatGLM3-6B on Transformers 5, without remote code.

The model (Transformers' GLM under the original's names), its tokenizer, its
prompt format, the token loop and its output protocol. Not the app: nothing here
knows of pages, settings or stored conversations.

    checkpoint, architecture, attention → loading ┐
    decoder → prompt → tokenizer, chatml ─────────┴→ kv_cache, sampling → generation → protocol → events
"""

from chatglm3.errors import ChatGLM3Error, CheckpointError, GenerationError, PromptTooLongError
from chatglm3.loading import load
from chatglm3.tokenizer import ChatGLM3Tokenizer

__all__ = [
    "ChatGLM3Error",
    "ChatGLM3Tokenizer",
    "CheckpointError",
    "GenerationError",
    "PromptTooLongError",
    "load",
]
