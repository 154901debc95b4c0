"""What can go wrong with a model, each told in one sentence that says what to do.

ChatGLM3Error
├── CheckpointError     a folder or hub id that cannot be loaded
├── PromptTooLongError  the system prompt and the last turn alone exceed the context
└── GenerationError     the model ran and failed: invalid logits, no memory left
"""

from typing import Any


class ChatGLM3Error(Exception):
    """Base of this package's errors; its text is meant for the user.

    Those that a user can meet in the midst of a conversation also have a `key` and
    `values`, by which the sentence can be told in another language.
    """

    def __init__(self, sentence: str, key: str = "", **values: Any) -> None:
        super().__init__(sentence)
        self.key = key
        self.values = values


class CheckpointError(ChatGLM3Error):
    """The checkpoint is missing, incomplete, truncated, or of another architecture."""


class PromptTooLongError(ChatGLM3Error):
    """What may not be left out of the prompt does not fit into the model's context."""


class GenerationError(ChatGLM3Error):
    """The model cannot go on with this answer."""
