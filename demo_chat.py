"""Chat mode: a conversation, drawn as it is written.

It shows events and decides nothing: `runtime.chats` keeps the conversation, and
a job there writes the answer, whether or not this page is looking.
"""

from collections.abc import Callable
from functools import partial

import streamlit as st

from client import ModelInfo
from conversation import Conversation, Role
from page import copy_button, draw_welcome
from runtime.chats import Answer, BusyError, Chat, Generate

# Several tokens a picture: each one sends the answer's whole text to the browser.
SECONDS_BETWEEN_PICTURES = 0.15

_ENDINGS = {
    "stopped": ":material/stop_circle: Stopped",
    "length": ":material/content_cut: Cut at the output length",
    "context": ":material/content_cut: The model's context is full",
}


def main(info: ModelInfo, chat: Chat, generator: Callable[[], Generate]) -> None:
    """Draw the conversation and take the next question; `generator` gives what answers it."""
    messages, answer = chat.snapshot()
    if not messages:
        draw_welcome(info, partial(_ask, chat, generator))
    for index, message in enumerate(messages):
        is_last = index == len(messages) - 1 and answer is None
        _draw_message(chat, index, message, generator, is_last)
    if answer is not None:
        _draw_answer(chat)
        st.bottom.button("Stop", icon=":material/stop:", key="stop", shortcut="Esc", on_click=chat.stop)
    st.chat_input(
        f"Message {info.name}",
        key="question",
        disabled=answer is not None,
        on_submit=lambda: _ask(chat, generator, st.session_state.question),
    )


def start_answer(generator: Callable[[], Generate], start: Callable[..., None], *arguments: object) -> None:
    """Start an answer by one of the chat's methods, from a callback."""
    try:
        start(*arguments, generator())
    except BusyError as error:  # asked in another tab at the same time, say
        st.toast(str(error))


def _ask(chat: Chat, generator: Callable[[], Generate], question: str) -> None:
    if question.strip():
        start_answer(generator, chat.ask, question)
    else:
        st.toast("There is nothing to send.")


def _draw_message(
    chat: Chat, index: int, message: Conversation, generator: Callable[[], Generate], is_last: bool
) -> None:
    block = message.role.get_message()
    if block is None:
        return
    with block:
        if message.role is Role.USER:
            _draw_question(chat, index, message, generator)
            return
        if message.content:
            message.show(st.container())
        if message.error:
            st.error(message.error, icon=":material/error:")
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            if message.content:
                copy_button(message.content, key=f"copy-{index}")
            if is_last:
                st.button(
                    "",
                    icon=":material/refresh:",
                    key="regenerate",
                    type="tertiary",
                    help="Answer again",
                    on_click=partial(start_answer, generator, chat.retry),
                )
            st.caption(_summary(message))
        if message.left_out:
            st.caption(
                f":material/history: The oldest {message.left_out} messages no longer fit into the model's "
                "context; the model did not see them."
            )


def _summary(message: Conversation) -> str:
    parts = [_ENDINGS[message.ending]] if message.ending in _ENDINGS else []
    if metrics := message.metrics:
        parts.append(f"{metrics.new_tokens} tokens")
        if metrics.tokens_per_second:
            parts.append(f"{metrics.tokens_per_second:.1f} tokens/s")
        if metrics.new_tokens:
            parts.append(f"first after {metrics.first_token_seconds:.2f} s")
    return " · ".join(parts)


def _draw_question(chat: Chat, index: int, message: Conversation, generator: Callable[[], Generate]) -> None:
    if st.session_state.get("editing") != (index, message):
        with st.container(horizontal=True, vertical_alignment="top", wrap=False):
            message.show(st.container())
            st.button(
                "",
                icon=":material/edit:",
                key=f"edit-{index}",
                type="tertiary",
                help="Edit and ask again",
                disabled=chat.answering,
                on_click=partial(st.session_state.__setitem__, "editing", (index, message)),
            )
        return

    def ask_again() -> None:
        if st.session_state[f"edited-{index}"].strip():
            st.session_state.pop("editing")
            start_answer(generator, chat.edit, index, st.session_state[f"edited-{index}"])

    st.text_area("Edit your question", message.content, key=f"edited-{index}", label_visibility="collapsed")
    with st.container(horizontal=True):
        st.button("Ask again", type="primary", key="ask-again", on_click=ask_again)
        st.button("Cancel", key="cancel-edit", on_click=partial(st.session_state.pop, "editing"))


@st.fragment(run_every=SECONDS_BETWEEN_PICTURES)
def _draw_answer(chat: Chat) -> None:
    _, answer = chat.snapshot()
    if answer is None:  # it is among the messages now
        st.rerun()
    *finished, current = answer.messages or (Conversation(Role.ASSISTANT, ""),)
    for message in finished:
        message.show()
    block = current.role.get_message()
    assert block is not None  # only a system message has none, and no answer is one
    with block:
        if current.content:
            st.markdown(current.get_text() + " ▌")
        else:
            st.caption(_waiting(answer))


def _waiting(answer: Answer) -> str:
    if answer.phase == "waiting" and answer.place:
        return f":material/hourglass_empty: The model is busy; {answer.place} before you."
    return ":material/more_horiz: Reading…"
