"""The settings in the sidebar: system prompt, sampling, language; and which model answers."""

from functools import partial
from typing import Any

import streamlit as st

from client import Client, ModelInfo
from runtime.chat import Chat
from ui.conversations import delete
from ui.texts import LANGUAGES, language, plain, text
from ui.view import View, current_settings, keep_widget

LIMITS = {"temperature": (0.0, 1.5), "top_p": (0.01, 1.0), "repetition_penalty": (1.0, 2.0)}


def draw_settings(view: View) -> None:
    """The system prompt and the sampling parameters, as they were last set in this conversation."""
    info = view.client.info
    _set_those_of(view.chat, info)
    st.text_area(text("settings.system"), key="system", help=text("settings.system_help"))
    st.slider(
        text("settings.temperature"),
        *LIMITS["temperature"],
        step=0.01,
        key="temperature",
        help=text("settings.temperature_help"),
    )
    st.slider(
        text("settings.top_p"), *LIMITS["top_p"], step=0.01, key="top_p", help=text("settings.top_p_help")
    )
    st.slider(
        text("settings.repetition_penalty"),
        *LIMITS["repetition_penalty"],
        step=0.01,
        key="repetition_penalty",
        help=text("settings.repetition_penalty_help"),
    )
    st.number_input(
        text("settings.max_new_tokens"),
        1,
        info.context_length,
        step=64,
        key="max_new_tokens",
        help=text("settings.max_new_tokens_help"),
    )
    view.chat.configure(current_settings())
    _draw_actions(view)
    _draw_language()
    _draw_model(info)


def _set_those_of(chat: Chat, info: ModelInfo) -> None:
    """Set the widgets as they were in this conversation, or else as they are, or else to the defaults."""
    defaults = {
        "system": info.default_system_prompt,
        "top_p": info.default_top_p,
        "temperature": info.default_temperature,
        "repetition_penalty": 1.0,
        "max_new_tokens": min(1024, info.context_length // 4),
    }
    for name, value in defaults.items():
        st.session_state.setdefault(name, value)
    if st.session_state.get("settings-of") != chat.id:
        st.session_state["settings-of"] = chat.id
        limits = {**LIMITS, "max_new_tokens": (1, info.context_length)}
        for name, default in defaults.items():
            if name in chat.settings:
                value = chat.settings[name]
                st.session_state[name] = _within(limits.get(name), value, default)


def _within(limits: tuple[float, float] | None, value: Any, default: Any) -> Any:
    """The stored value as a widget takes it: it may be from a file, or of a model with another context."""
    if isinstance(value, bool) or not isinstance(value, str if limits is None else int | float):
        return default
    if limits is None:
        return value
    return type(default)(min(max(value, limits[0]), limits[1]))


def _draw_actions(view: View) -> None:
    busy, empty = view.chat.answering, view.chat.empty

    def clear() -> None:
        delete(view, view.chat.id, view.chat.title)

    with st.container(horizontal=True):
        st.button(
            text("settings.retry"),
            icon=":material/refresh:",
            key="retry",
            disabled=busy or empty,
            on_click=partial(view.start, view.chat.retry),
        )
        st.button(
            text("settings.clear"),
            icon=":material/delete:",
            key="clear",
            disabled=empty,
            on_click=clear,
        )


def _draw_language() -> None:
    def choose() -> None:
        st.query_params["lang"] = st.session_state["language"]

    keep_widget("language", language())
    st.segmented_control(
        text("page.language"),
        list(LANGUAGES),
        format_func=LANGUAGES.__getitem__,
        required=True,
        key="language",
        on_change=choose,
    )


def _draw_model(info: ModelInfo) -> None:
    size = f"{info.parameters / 1e9:.1f} B" if info.parameters >= 1e9 else f"{info.parameters / 1e6:.0f} M"
    st.caption(
        text("page.model", name=plain(info.name), size=size, dtype=info.dtype, device=plain(info.device))
    )
    st.caption(text("page.another_model"))


def draw_context(client: Client, chat: Chat) -> None:
    """How much of the model's context the conversation takes, in the model's own tokens."""
    used = client.count_tokens(st.session_state["system"], None, chat.snapshot().history)
    st.caption(text("page.context", used=used, context=client.info.context_length))
