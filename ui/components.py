"""Small parts of the page that Streamlit does not have."""

import streamlit as st

from ui.texts import text

_COPY_HTML = '<button type="button"></button>'

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
  button.textContent = data.label;
  button.onclick = async () => {
    if (navigator.clipboard) await navigator.clipboard.writeText(data.text);
    else copyTheOldWay(data.text);
    button.textContent = data.done;
    setTimeout(() => { button.textContent = data.label; }, 1500);
  };
}
"""


def copy_button(words: str, key: str) -> None:
    """A button that puts the words, as they are, into the browser's clipboard."""
    component = st.components.v2.component("copy_button", html=_COPY_HTML, css=_COPY_CSS, js=_COPY_JS)
    data = {"text": words, "label": text("chat.copy"), "done": text("chat.copied")}
    component(key=key, data=data, width="content", height="content")
