"""The list of conversations in the sidebar: find, open, rename, pin, export, delete, import."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import partial
from itertools import groupby
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from conversation import Failure
from runtime import transfer
from runtime.chats import Chats
from runtime.errors import AppError
from runtime.store import MAX_FOUND, Heading
from ui.texts import failure_text, plain, text
from ui.view import View, show, show_new, succeeds

PAGE = 25  # conversations

ICONS = {"chat": ":material/chat:", "tool": ":material/build:", "code": ":material/code:"}


def draw_conversations(view: View) -> None:
    """What is found of the owner's conversations, a page of them, newest first by day."""
    st.button(
        text("list.new"),
        icon=":material/add:",
        key="new-chat",
        width="stretch",
        on_click=show_new,
        args=(view.chat.mode,),
    )
    query = st.text_input(
        text("list.search"),
        key="search",
        icon=":material/search:",
        placeholder=text("list.search_placeholder"),
        label_visibility="collapsed",
        on_change=st.session_state.pop,
        args=("list-page", None),
    )
    _draw_undo(view)
    headings, total = _find(view, query)
    if query.strip():
        many = "list.found_many" if total == MAX_FOUND else "list.found"
        st.caption(text(many, count=total) if total else text("list.none_found"))
    elif not total:
        st.caption(text("list.none"))
    _draw_days(view, headings)
    if total > PAGE:
        st.pagination(-(-total // PAGE), key="list-page", max_visible_pages=5)
    _draw_import(view)


def _find(view: View, query: str) -> tuple[list[Heading], int]:
    """The list's page that was chosen, or the last one, if there are fewer now; and how many are found."""
    page = st.session_state.get("list-page", 1)
    headings, total = view.chats.store.find(view.chat.owner, query, (page - 1) * PAGE, PAGE)
    if page > 1 and not headings:
        st.session_state["list-page"] = max(1, -(-total // PAGE))
        return _find(view, query)
    return headings, total


def _draw_days(view: View, headings: Sequence[Heading]) -> None:
    today = datetime.now(_time_zone()).date()
    today = datetime.now(_time_zone()).date()
    with st.container(gap=None):
        for day, of_day in groupby(headings, lambda heading: _day(heading, today)):
            st.caption(day)
            for heading in of_day:
                _draw_row(view, heading)


def _day(heading: Heading, today: date) -> str:
    if heading.pinned:
        return text("list.pinned")
    day = heading.updated.astimezone(_time_zone()).date()
    if day == today:
        return text("list.today")
    if day == today - timedelta(days=1):
        return text("list.yesterday")
    return text("list.day", date=day)


def _time_zone() -> tzinfo:
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):  # whatever the browser calls it
        return UTC


def _draw_row(view: View, heading: Heading) -> None:
    is_open = heading.id == view.chat.id
    with st.container(horizontal=True, vertical_alignment="center", gap=None, wrap=False):
        st.container(width="stretch").button(  # which keeps a short title at the left
            plain(heading.title),
            icon=ICONS[heading.mode],
            key=f"open-{heading.id}",
            type="secondary" if is_open else "tertiary",
            wrap=False,
            on_click=show,
            args=(heading.id,),
        )
        key = f"menu-{heading.id}"
        actions = ["rename", "unpin" if heading.pinned else "pin", "export", "delete"]
        chosen = st.menu_button(
            "",
            actions,
            icon=":material/more_horiz:",
            key=key,
            type="tertiary",
            format_func=lambda action: text(f"list.{action}"),
        )
    match chosen:
        case "rename":
            _rename(view, heading)
        case "pin" | "unpin":
            if succeeds(view.chats.store.pin, view.chat.owner, heading.id, chosen == "pin"):
                st.rerun()
        case "export":
            _export(view, heading)
        case "delete":
            if delete(view, heading.id, heading.title):
                st.rerun()


def delete(view: View, chat_id: str, title: str) -> bool:
    """Delete a conversation, and offer to undo that; whether it could be done."""
    if not succeeds(view.chats.delete, view.chat.owner, chat_id):
        return False
    if not view.chat.temporary:
        st.session_state["deleted"] = (chat_id, title)
    if chat_id == view.chat.id:
        show_new(view.chat.mode)
    return True


def _draw_undo(view: View) -> None:
    deleted = st.session_state.get("deleted")
    if deleted is None:
        return
    chat_id, title = deleted

    def undo() -> None:
        if succeeds(view.chats.restore, view.chat.owner, chat_id):
            del st.session_state["deleted"]
            show(chat_id)

    with st.container(horizontal=True, vertical_alignment="center", border=True):
        st.caption(text("list.deleted", title=plain(title)))
        st.button(text("list.undo"), icon=":material/undo:", key="undo", on_click=undo)


def _rename(view: View, heading: Heading) -> None:
    @st.dialog(text("list.rename"))
    def dialog() -> None:
        with st.form("rename", border=False):
            title = st.text_input(text("list.title"), heading.title, max_chars=200)
            save = st.form_submit_button(text("list.save"), type="primary")
        if save and succeeds(view.chats.rename, view.chat.owner, heading.id, title):
            st.rerun()

    dialog()


def _export(view: View, heading: Heading) -> None:
    @st.dialog(text("transfer.export_title"))
    def dialog() -> None:
        for kind, suffix, media_type in (
            ("markdown", ".md", "text/markdown"),
            ("json", ".json", "application/json"),
            ("notebook", ".ipynb", "application/x-ipynb+json"),
        ):
            if kind == "notebook" and heading.mode != "code":
                continue
            st.download_button(
                text(f"transfer.{kind}"),
                partial(_exported, view.chats, view.chat.owner, heading.id, kind),
                transfer.file_name(heading.title, suffix),
                media_type,
                icon=":material/download:",
                key=f"export-{kind}",
                help=text(f"transfer.{kind}_help"),
                on_click="ignore",
                width="stretch",
            )

    dialog()


def _exported(chats: Chats, owner: str, chat_id: str, kind: str) -> bytes:
    stored = chats.stored(owner, chat_id)
    if stored is None:
        return b""
    messages = stored.tree.messages()
    match kind:
        case "markdown":
            return transfer.to_markdown(stored.heading.title, messages).encode()
        case "notebook":
            return transfer.to_notebook(stored.heading.title, messages).encode()
        case _:
            return transfer.to_json(stored).encode()


def _draw_import(view: View) -> None:
    def import_() -> None:
        file = st.session_state["import"]
        try:
            if file is not None:
                stored = transfer.from_json(file.getvalue())
                view.chats.store.create(view.chat.owner, stored)
                show(stored.heading.id)
                st.session_state.pop("import-failure", None)
        except AppError as error:
            st.session_state["import-failure"] = Failure.of(error)

    with st.expander(text("transfer.import"), icon=":material/upload:"):
        st.file_uploader(
            text("transfer.import_label"),
            type="json",
            key="import",
            max_upload_size=transfer.MAX_BYTES // 2**20,
            on_change=import_,
        )
        if failure := st.session_state.get("import-failure"):
            st.error(failure_text(failure), icon=":material/error:")
