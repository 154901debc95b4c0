"""What can go wrong around a conversation, each told in one sentence that says what to do."""

from typing import Any


class AppError(Exception):
    """Its text is meant for the user; `key` and `values` tell the same in another language."""

    def __init__(self, sentence: str, key: str, **values: Any) -> None:
        super().__init__(sentence)
        self.key = key
        self.values = values


class BusyError(AppError):
    """The conversation is being answered."""

    def __init__(self) -> None:
        super().__init__("The model is still answering; stop it first.", "busy")


class DeletedError(AppError):
    """The conversation is off the list."""

    def __init__(self) -> None:
        super().__init__("This conversation was deleted.", "deleted")


class StoreError(AppError):
    """The conversations cannot be read or written; what was stored is as it was."""


class ConflictError(StoreError):
    """Another process has changed this conversation since it was read."""

    def __init__(self) -> None:
        super().__init__(
            "Another process of the app has changed this conversation; reload the page.", "conflict"
        )


class TransferError(AppError):
    """A file is not a conversation that can be read."""
