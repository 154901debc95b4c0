"""The prompt inspector: what the model saw when it gave an answer."""

import streamlit as st

from chatglm3.errors import ChatGLM3Error
from client import Client, InspectedPrompt
from conversation import Conversation, Failure, Request, fenced
from ui.texts import failure_text, plain, text


def draw_inspector(client: Client, message: Conversation, before: tuple[Conversation, ...], key: str) -> None:
    """A button that shows the prompt of an answer; `before` is the history up to it."""
    assert message.request is not None
    opened = st.button(
        "", icon=":material/data_object:", key=key, type="tertiary", help=text("inspector.open")
    )
    if opened:
        request, history = message.request, _history(message, before)

        @st.dialog(text("inspector.title"), width="large")
        def dialog() -> None:
            _draw(client, request, history)

        dialog()


def _history(message: Conversation, before: tuple[Conversation, ...]) -> tuple[Conversation, ...]:
    """What came before the answer: of its own messages, only what the model went on with."""
    assert message.request is not None
    asked = len(before)
    while asked and before[asked - 1].role.speaker == "assistant":
        asked -= 1
    history, answer = before[:asked], (*before[asked:], message)
    first = answer[0]
    if first.request is None or not first.request.continued:
        return history
    begun = Conversation(first.role, first.content[: first.request.continued], tool=first.tool)
    return (*history, begun)


def _draw(client: Client, request: Request, history: tuple[Conversation, ...]) -> None:
    try:
        prompt = client.inspect_prompt(request, history)
    except (ChatGLM3Error, ValueError) as error:
        st.error(text("inspector.impossible", reason=failure_text(Failure.of(error))))
        return
    st.caption(text("inspector.size", count=len(prompt.token_ids), model=plain(request.model)))
    if prompt.exact:
        st.success(text("inspector.exact"), icon=":material/verified:")
    else:
        st.warning(text("inspector.not_exact"), icon=":material/difference:")
    as_text, as_ids, left_out = st.tabs(
        [text("inspector.text"), text("inspector.ids"), text("inspector.left_out")]
    )
    as_text.code(prompt.text, language=None, wrap_lines=True, height=400)
    with as_ids:
        _draw_ids(prompt)
    with left_out:
        _draw_left_out(prompt)


def _draw_ids(prompt: InspectedPrompt) -> None:
    st.code(" ".join(map(str, prompt.token_ids)), language=None, wrap_lines=True, height=120)
    positions = list(range(len(prompt.token_ids)))
    columns = {
        text("inspector.position"): positions,
        text("inspector.id"): prompt.token_ids,
        text("inspector.piece"): [repr(piece)[1:-1] for piece in prompt.pieces],
    }
    st.dataframe(columns, hide_index=True, height=280)


def _draw_left_out(prompt: InspectedPrompt) -> None:
    if not prompt.left_out:
        st.caption(text("inspector.nothing_left_out"))
    for message in prompt.left_out:
        st.markdown(f"`{message['role']}`\n{fenced(str(message['content']))}")
