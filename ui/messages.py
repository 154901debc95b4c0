"""A conversation's messages: drawn as they are written, edited, branched, gone on with."""

from functools import partial

import streamlit as st

from conversation import Conversation, Role
from runtime.answers import Answer
from runtime.chat import Chat, Shown
from ui.components import copy_button
from ui.inspector import draw_inspector
from ui.texts import failure_text, text
from ui.view import View, succeeds

# Several tokens a picture: each one sends the answer's whole text to the browser.
SECONDS_BETWEEN_PICTURES = 0.15

_ICONS = {
    "stopped": ":material/stop_circle:",
    "length": ":material/content_cut:",
    "context": ":material/content_cut:",
    "interrupted": ":material/power_off:",
}
_CAN_GO_ON = ("stopped", "length", "interrupted", "failed")


def draw_messages(view: View) -> None:
    """All messages of the branch that is shown, and the answer that is being written."""
    snapshot = view.chat.snapshot()
    if snapshot.save_failure:
        reason = failure_text(snapshot.save_failure)
        st.warning(text("chat.unsaved", reason=reason), icon=":material/cloud_off:")
    elif view.chat.temporary and snapshot.messages:
        st.caption(":material/visibility_off: " + text("chat.temporary"))
    for index, shown in enumerate(snapshot.messages):
        is_last = index == len(snapshot.messages) - 1 and snapshot.answer is None
        _draw_message(view, shown, snapshot.history[:index], is_last)
    if snapshot.answer is not None:
        _draw_answer(view.chat)
        st.bottom.button(
            text("chat.stop"), icon=":material/stop:", key="stop", shortcut="Esc", on_click=view.chat.stop
        )


def draw_question_box(view: View) -> None:
    """Where the next question is typed."""

    def ask() -> None:
        question = st.session_state.question
        if not question.strip():
            st.toast(text("chat.nothing_to_send"))
        elif not view.started(view.chat.ask, question):
            st.session_state.question = question  # to be sent again

    placeholder = text("chat.placeholder", name=view.client.info.name)
    st.chat_input(placeholder, key="question", disabled=view.chat.answering, on_submit=ask)


def _draw_message(view: View, shown: Shown, before: tuple[Conversation, ...], is_last: bool) -> None:
    message = shown.message
    block = message.role.get_message()
    if block is None:
        return
    with block:
        if message.role is Role.USER:
            _draw_question(view, shown)
            return
        if message.content or message.files:
            message.show(st.container())
        if message.error:
            st.error(failure_text(message.error), icon=":material/error:")
        _draw_actions(view, shown, before, is_last)
        if message.left_out:
            st.caption(":material/history: " + text("chat.left_out", count=message.left_out))


def _draw_actions(view: View, shown: Shown, before: tuple[Conversation, ...], is_last: bool) -> None:
    message = shown.message
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if message.content:
            copy_button(message.content, key=f"copy-{shown.number}")
        if is_last:
            if message.content and message.ending in _CAN_GO_ON:
                st.button(
                    text("chat.go_on"),
                    icon=":material/play_arrow:",
                    key="go-on",
                    type="tertiary",
                    on_click=partial(view.start, view.chat.go_on),
                )
            st.button(
                "",
                icon=":material/refresh:",
                key="regenerate",
                type="tertiary",
                help=text("chat.again"),
                on_click=partial(view.start, view.chat.retry),
            )
        if message.request:
            draw_inspector(view.client, message, before, key=f"prompt-{shown.number}")
        _draw_branches(view, shown)
        st.caption(_summary(message))


def _draw_branches(view: View, shown: Shown) -> None:
    """‹ 2/3 ›, where the conversation branches."""
    branches = shown.branches
    if len(branches) < 2:
        return
    place = branches.index(shown.number)

    def choose(number: int) -> None:
        succeeds(view.chat.choose, number)

    def button(icon: str, help_: str, to: int) -> None:
        st.button(
            "",
            icon=icon,
            key=f"branch-{shown.number}-{icon}",
            type="tertiary",
            help=help_,
            disabled=view.chat.answering or not 0 <= to < len(branches),
            on_click=lambda: choose(branches[to]),
        )

    with st.container(horizontal=True, vertical_alignment="center", gap=None, width="content"):
        button(":material/chevron_left:", text("chat.previous"), place - 1)
        st.caption(text("chat.branch", place=place + 1, count=len(branches)), width="content")
        button(":material/chevron_right:", text("chat.next"), place + 1)


def _summary(message: Conversation) -> str:
    parts = []
    if message.ending in _ICONS:
        parts.append(f"{_ICONS[message.ending]} {text('chat.' + message.ending)}")
    if metrics := message.metrics:
        parts.append(text("chat.tokens", count=metrics.new_tokens))
        if metrics.tokens_per_second:
            parts.append(text("chat.speed", speed=metrics.tokens_per_second))
        if metrics.new_tokens:
            parts.append(text("chat.first_token", seconds=metrics.first_token_seconds))
    return " · ".join(parts)


def _draw_question(view: View, shown: Shown) -> None:
    editing = (view.chat.id, shown.number)
    if st.session_state.get("editing") != editing:
        with st.container(horizontal=True, vertical_alignment="top", wrap=False):
            shown.message.show(st.container())
            _draw_branches(view, shown)
            st.button(
                "",
                icon=":material/edit:",
                key=f"edit-{shown.number}",
                type="tertiary",
                help=text("chat.edit"),
                disabled=view.chat.answering,
                on_click=partial(st.session_state.__setitem__, "editing", editing),
            )
        return
    key = f"edited-{shown.number}"

    def ask_again() -> None:
        if not st.session_state[key].strip():
            st.toast(text("chat.nothing_to_send"))
        elif view.started(view.chat.edit, shown.number, st.session_state[key]):
            st.session_state.pop("editing", None)

    st.text_area(text("chat.edit_label"), shown.message.content, key=key, label_visibility="collapsed")
    with st.container(horizontal=True):
        st.button(text("chat.ask_again"), type="primary", key="ask-again", on_click=ask_again)
        st.button(text("chat.cancel"), key="cancel-edit", on_click=partial(st.session_state.pop, "editing"))


@st.fragment(run_every=SECONDS_BETWEEN_PICTURES)
def _draw_answer(chat: Chat) -> None:
    answer = chat.snapshot().answer
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
        return ":material/hourglass_empty: " + text("chat.busy", place=answer.place)
    return ":material/more_horiz: " + text("chat.reading")
