"""Chat mode: a conversation, drawn as it is written.

It shows events and decides nothing: `runtime.chats` keeps the conversation, and
a job there writes the answer, whether or not this page is looking.
"""

from functools import partial

import streamlit as st

from ui.messages import draw_messages, draw_question_box
from ui.texts import plain, text
from ui.view import View, keep_widget


def main(view: View) -> None:
    """Draw the conversation, and take the next question."""
    if view.chat.empty:
        _draw_welcome(view)
    draw_messages(view)
    draw_question_box(view)


def _draw_welcome(view: View) -> None:
    """What an empty conversation shows: which model this is, and questions to begin with."""
    info = view.client.info
    st.header(text("welcome.header", name=plain(info.name)), anchor=False)
    if info.embedded:
        st.markdown(text("welcome.embedded"))
    with st.container(horizontal=True):
        for number in (1, 2, 3):
            suggestion = text(f"welcome.{'embedded' if info.embedded else 'chatglm3'}_{number}")
            ask = partial(view.start, view.chat.ask, suggestion)
            st.button(suggestion, key=f"suggestion-{number}", on_click=ask)
    _draw_temporary(view)


def _draw_temporary(view: View) -> None:
    """A switch that makes the conversation, which is still empty, one of which nothing is stored."""

    def switch() -> None:
        st.session_state["new"] = view.chats.new(
            view.chat.owner, view.chat.mode, st.session_state["temporary"]
        )

    keep_widget("temporary", view.chat.temporary)
    st.toggle(
        text("welcome.temporary"), key="temporary", help=text("welcome.temporary_help"), on_change=switch
    )
