"""The page: the model's state, the sidebar, and the switch between the three modes.

streamlit run main.py
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import streamlit as st

import demo_chat
import demo_ci
import demo_tool
from client import Client, Loading, ModelInfo, get_client, start_loading
from runtime.chats import Chat, Dialogue, Dialogues, Generate
from runtime.jobs import Job

CHAT, TOOL, CODE = "Chat", "Tool", "Code Interpreter"

# The sidebar's widgets by their keys.
SETTINGS = ("system", "temperature", "top_p", "repetition_penalty", "max_new_tokens")

logger = logging.getLogger(__name__)


@st.cache_resource
def get_dialogues() -> Dialogues:
    """All dialogues of this process, for all its sessions."""
    return Dialogues((CHAT, TOOL, CODE))


def main() -> None:
    st.set_page_config(page_title="ChatGLM3", page_icon="💬", layout="centered")
    loading = start_loading()
    if not loading.done:
        draw_loading(loading)
    elif loading.state.client is None:
        draw_failure(loading.state.error)
    else:
        draw_app(get_client(), open_dialogue())


@st.fragment(run_every=0.3)
def draw_loading(loading: Job[Loading]) -> None:
    if loading.done:
        st.rerun()
    st.header("ChatGLM3", anchor=False)
    st.progress(loading.state.fraction, text=f"{loading.state.what}…")


def draw_failure(sentence: str) -> None:
    st.header("ChatGLM3", anchor=False)
    st.error(sentence, icon=":material/error:")
    st.markdown(
        "`MODEL_PATH` names the model: a folder with ChatGLM3-6B, or `embedded` for the small model "
        "that comes with this app. Settings are read when the app starts."
    )
    if st.button("Try again", type="primary"):
        start_loading(again=True)
        st.rerun()


def open_dialogue() -> Dialogue:
    """The dialogue in the page's address, so that a reload shows it again; else a new one."""
    dialogues = get_dialogues()
    dialogue = dialogues.open(st.query_params.get("c", ""))
    if dialogue is None:
        st.query_params["c"], dialogue = dialogues.new()
    return dialogue


def draw_app(client: Client, dialogue: Dialogue) -> None:
    mode = st.segmented_control(
        "Mode",
        [CHAT, TOOL, CODE],
        default=CHAT,
        required=True,
        key="mode",
        bind="query-params",
        label_visibility="collapsed",
    )
    chat = dialogue.chats[mode or CHAT]
    generator = partial(make_generate, client)
    with st.sidebar:
        draw_settings(client.info, dialogue.settings)
        dialogue.settings = current_settings()
        draw_actions(chat, generator)
        draw_context(client, dialogue.settings["system"], chat)
        draw_model(client.info)
    if mode == TOOL:
        demo_tool.main()
    elif mode == CODE:
        demo_ci.main()
    else:
        demo_chat.main(client.info, chat, generator)


def make_generate(client: Client) -> Generate:
    """What answers with the settings of this moment; a callback has newer ones than the page's last run."""
    settings = current_settings()
    return partial(client.generate_stream, settings.pop("system"), None, **settings)


def current_settings() -> dict[str, Any]:
    return {name: st.session_state[name] for name in SETTINGS}


def draw_settings(info: ModelInfo, saved: dict[str, Any]) -> None:
    """The system prompt and the sampling parameters; what was set before a reload is set again."""
    defaults = {
        "system": info.default_system_prompt,
        "top_p": info.default_top_p,
        "temperature": info.default_temperature,
        "repetition_penalty": 1.0,
        "max_new_tokens": min(1024, info.context_length // 4),
    }
    for name, value in (defaults | saved).items():
        st.session_state.setdefault(name, value)
    st.text_area("System prompt", key="system", help="Who the model is, and how it should answer.")
    st.slider("Temperature", 0.0, 1.5, step=0.01, key="temperature", help="0: always the likeliest token.")
    st.slider("Top p", 0.01, 1.0, step=0.01, key="top_p", help="Of how much probability to choose from.")
    st.slider(
        "Repetition penalty", 1.0, 2.0, step=0.01, key="repetition_penalty", help="Above 1: repeats less."
    )
    st.number_input(
        "Output length", 1, info.context_length, step=64, key="max_new_tokens", help="At most, in tokens."
    )


def draw_actions(chat: Chat, generator: Callable[[], Generate]) -> None:
    messages, answer = chat.snapshot()
    with st.container(horizontal=True):
        st.button(
            "Retry",
            icon=":material/refresh:",
            key="retry",
            disabled=not messages or answer is not None,
            on_click=demo_chat.start_answer,
            args=(generator, chat.retry),
        )
        st.button(
            "Clear history",
            icon=":material/delete:",
            key="clear",
            disabled=not messages,
            on_click=chat.clear,
        )


def draw_context(client: Client, system: str, chat: Chat) -> None:
    """How much of the model's context the conversation takes, in the model's own tokens."""
    used, context = client.count_tokens(system, None, chat.snapshot()[0]), client.info.context_length
    st.progress(min(1.0, used / context), text=f"Context: {used:,} of {context:,} tokens")


def draw_model(info: ModelInfo) -> None:
    size = f"{info.parameters / 1e9:.1f} B" if info.parameters >= 1e9 else f"{info.parameters / 1e6:.0f} M"
    st.caption(f"**{info.name}** · {size} parameters · {info.dtype} on {info.device}")
    st.caption("Another model: set `MODEL_PATH` and start the app again.")


if __name__ == "__main__":
    try:
        main()
    except Exception:
        logger.exception("The page failed")
        st.error("Something went wrong on this page; the log has the details. Reload to go on.")
