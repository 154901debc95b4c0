"""What one run of the page shows: whose conversation, and what answers it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from client import BoundClient, Client
from conversation import Failure, Request
from runtime.chat import Chat
from runtime.chats import Chats
from runtime.errors import AppError
from ui.texts import failure_text

# The settings' widgets by their keys.
SETTINGS = ("system", "temperature", "top_p", "repetition_penalty", "max_new_tokens")


@dataclass(frozen=True)
class View:
    client: Client
    chats: Chats
    chat: Chat

    def start(self, action: Callable[..., None], *arguments: object) -> None:
        """Let the model answer by one of the chat's methods, from a callback."""
        self.started(action, *arguments)

    def started(self, action: Callable[..., None], *arguments: object) -> bool:
        """The same; whether the answer was begun."""
        if not succeeds(action, *arguments, self._generate()):
            return False
        self.chats.keep(self.chat)
        show(self.chat.id)
        return True

    def _generate(self) -> BoundClient:
        # A callback's settings are newer than those of the page's last run.
        settings = current_settings()
        system = settings.pop("system")
        return BoundClient(self.client, Request(self.client.info.name, system, parameters=settings))


def succeeds(action: Callable[..., None], *arguments: object) -> bool:
    """Do it; what hinders it, asked in another tab at the same time, say, is told in a toast."""
    try:
        action(*arguments)
    except AppError as error:
        st.toast(failure_text(Failure.of(error)), icon=":material/error:")
        return False
    return True


def current_settings() -> dict[str, Any]:
    return {name: st.session_state[name] for name in SETTINGS}


def keep_widget(key: str, value: object) -> None:
    """Make the widget that comes next show this value.

    Only if it does not yet: what a script sets, the browser takes over a click of that moment.
    """
    if st.session_state.get(key) != value:
        st.session_state[key] = value


def show(chat_id: str) -> None:
    """Make the page's address, and so its next run, that of a conversation."""
    _go(c=chat_id, mode=None)


def show_new(mode: str) -> None:
    """Make the page's address that of a new conversation."""
    _go(c=None, mode=None if mode == "chat" else mode)
    st.session_state.pop("new", None)


def _go(**changes: str | None) -> None:
    """Change the address in one step: each is one of the browser's back button."""
    address = {**st.query_params.to_dict(), **changes}
    st.query_params.from_dict({name: value for name, value in address.items() if value is not None})
