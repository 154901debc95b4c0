"""The page: the model's state, the sidebar, and the switch between the three modes.

streamlit run main.py
"""

import logging

import streamlit as st

import demo_chat
import demo_ci
import demo_tool
from client import Loading, get_client, start_loading
from conversation import Failure
from runtime.chat import Chat
from runtime.chats import Chats
from runtime.database import open_database
from runtime.errors import StoreError
from runtime.jobs import Job
from runtime.settings import read_settings
from runtime.store import Store
from ui.account import draw_account, draw_public_warning, signed_in_owner
from ui.conversations import draw_conversations
from ui.settings import draw_context, draw_settings
from ui.texts import failure_text, text
from ui.view import View, keep_widget, show, show_new

MODES = {"chat": demo_chat.main, "tool": demo_tool.main, "code": demo_ci.main}

logger = logging.getLogger(__name__)


def main() -> None:
    st.set_page_config(page_title=text("page.title"), page_icon="💬", layout="centered")
    draw_public_warning()
    owner = signed_in_owner()
    if owner is None:
        return
    loading = start_loading()
    if not loading.done:
        draw_loading(loading)
    elif loading.state.client is None:
        draw_failure(text("loading.failed"), loading.state.error)
    else:
        draw_app(owner)


@st.fragment(run_every=0.3)
def draw_loading(loading: Job[Loading]) -> None:
    if loading.done:
        st.rerun()
    st.header(text("page.title"), anchor=False)
    st.progress(loading.state.fraction, text=text("loading.progress", what=loading.state.what))


def draw_failure(what: str, sentence: str) -> None:
    st.header(what, anchor=False)
    st.error(sentence, icon=":material/error:")
    st.markdown(text("loading.how"))
    if st.button(text("loading.again"), type="primary"):
        start_loading(again=True)
        st.rerun()


@st.cache_resource(show_spinner=False)
def get_chats() -> Chats:
    """The conversations that are open in this process, of all its sessions; raises StoreError."""
    settings = read_settings()
    url = settings.database_url.get_secret_value() if settings.database_url else None
    store = Store(open_database(settings.data_path, url))
    store.purge()
    return Chats(store)


def draw_app(owner: str) -> None:
    try:
        chats = get_chats()
        view = View(get_client(), chats, open_chat(chats, owner))
        with st.sidebar:
            draw_sidebar(view)
    except StoreError as error:
        logger.error("The conversations cannot be opened: %s", error)
        st.header(text("loading.store_failed"), anchor=False)
        st.error(failure_text(Failure.of(error)), icon=":material/error:")
        st.button(text("loading.again"), type="primary")
        return
    draw_modes(view)
    MODES[view.chat.mode](view)


def open_chat(chats: Chats, owner: str) -> Chat:
    """The conversation in the page's address, or else this session's new one."""
    chat_id = st.query_params.get("c")
    if chat_id:
        chat = chats.open(owner, chat_id)
        if chat is not None:
            st.session_state.setdefault("last", {})[chat.mode] = chat_id
            return chat
        st.toast(text("chat.not_found"), icon=":material/search_off:")
        st.query_params.pop("c")
    mode = st.query_params.get("mode", "chat")
    chat = st.session_state.get("new")
    if chat is None or chat.owner != owner or not chat.empty:
        chat = chats.new(owner, mode if mode in MODES else "chat")
        st.session_state["new"] = chat
    return chat


def draw_sidebar(view: View) -> None:
    draw_account()
    conversations, settings = st.tabs([text("page.conversations"), text("page.settings")])
    with conversations:
        draw_conversations(view)
    with settings:
        draw_settings(view)


def draw_modes(view: View) -> None:
    """The mode switch. A conversation has one mode: another mode shows another conversation."""

    def switch() -> None:
        mode = st.session_state["mode"]
        last = st.session_state.get("last", {}).get(mode)
        if last:
            show(last)
        else:
            show_new(mode)

    keep_widget("mode", view.chat.mode)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.segmented_control(
            text("mode.label"),
            list(MODES),
            format_func=lambda mode: text(f"mode.{mode}"),
            required=True,
            key="mode",
            on_change=switch,
            label_visibility="collapsed",
        )
        draw_context(view.client, view.chat)


if __name__ == "__main__":
    try:
        main()
    except Exception:
        logger.exception("The page failed")
        st.error(text("page.failed"))
