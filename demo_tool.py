"""Tool mode: not here yet, and it says so."""

import streamlit as st

from ui.texts import text
from ui.view import View


def main(view: View) -> None:
    st.info(text("mode.tool_not_here"), icon=":material/construction:")
