"""Parts of the page that the modes share."""

from collections.abc import Callable

import streamlit as st

from client import ModelInfo

_SUGGESTIONS = {
    True: (
        "What is the capital of France?",
        "Explain what a neural network is, in three sentences.",
        "Write a short poem about the sea.",
    ),
    False: (
        "你好,请介绍一下你自己。",
        "Explain the difference between a list and a tuple in Python.",
        "晚上睡不着应该怎么办?",
    ),
}

_COPY_HTML = '<button type="button">Copy</button>'

_COPY_CSS = """
button {
  font: inherit; font-size: 0.8rem; cursor: pointer; padding: 0.15rem 0.5rem;
  color: var(--st-text-color); opacity: 0.6; background: none;
  border: 1px solid var(--st-border-color); border-radius: 0.5rem;
}
button:hover, button:focus-visible { opacity: 1; }
"""

# navigator.clipboard exists only on https and localhost; elsewhere the old way is left.
_COPY_JS = """
export default function ({ parentElement, data }) {
  const button = parentElement.querySelector("button");
  const copyTheOldWay = (text) => {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  };
  button.onclick = async () => {
    if (navigator.clipboard) await navigator.clipboard.writeText(data);
    else copyTheOldWay(data);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
}
"""


def copy_button(text: str, key: str) -> None:
    """A button that puts the text, as it is, into the browser's clipboard."""
    component = st.components.v2.component("copy_button", html=_COPY_HTML, css=_COPY_CSS, js=_COPY_JS)
    component(key=key, data=text, width="content", height="content")


def draw_welcome(info: ModelInfo, ask: Callable[[str], None]) -> None:
    """What an empty conversation shows: which model this is, and questions to begin with."""
    st.header(f"Chat with {info.name}", anchor=False)
    if info.embedded:
        st.markdown(
            "This is a small model (135 million parameters, English) that runs on any machine. "
            "To chat with **ChatGLM3-6B**, start the app with its folder: "
            "`MODEL_PATH=/path/to/chatglm3-6b make run`."
        )
    with st.container(horizontal=True):
        for suggestion in _SUGGESTIONS[info.embedded]:
            st.button(suggestion, key=suggestion, on_click=ask, args=(suggestion,))


def draw_not_here_yet(mode: str, what: str) -> None:
    """The page of a mode that does not exist yet."""
    st.info(f"{mode} mode is not here yet. {what}", icon=":material/construction:")
