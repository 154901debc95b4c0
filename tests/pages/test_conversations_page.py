"""Conversations that last, as a person meets them: list, search, branches, reload, two tabs, files."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from benchmarks.conversations import fill
from runtime.database import FILE_NAME, open_database
from runtime.store import Store
from tests.pages.conftest import START_TIMEOUT, running_app
from tests.pages.person import (
    LONG,
    ask,
    ask_shortly,
    choose_in_menu,
    limit_output,
    listed,
    messages,
    stop_button,
    wait_for_words,
    wait_until_answered,
)


@pytest.fixture(scope="module")
def own_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app with no conversations but those of this module's tests."""
    data = tmp_path_factory.mktemp("data")
    with running_app(MODEL_PATH="embedded", DATA_PATH=str(data)) as address:
        yield address


@pytest.fixture
def page(own_app: str, open_page: Callable[..., Page]) -> Page:
    page = open_page(own_app)
    page.get_by_test_id("stChatInputTextArea").wait_for(timeout=START_TIMEOUT)
    return page


def test_a_conversation_is_listed_by_its_first_question_and_found_again(page: Page) -> None:
    ask_shortly(page, "Which fruit is *yellow* and long?")
    expect(listed(page).first).to_contain_text("Which fruit is *yellow* and long?")
    expect(page.get_by_text("Today", exact=True)).to_be_visible()
    page.get_by_role("button", name="New chat").click()
    expect(messages(page)).to_have_count(0)
    listed(page).first.get_by_role("button").click()
    expect(messages(page).first).to_contain_text("yellow")


def test_the_address_shows_the_same_conversation_in_a_second_tab_after_a_reload_and_back(page: Page) -> None:
    ask_shortly(page, "First of two")
    first = page.url
    page.get_by_role("button", name="New chat").click()
    expect(messages(page)).to_have_count(0)
    ask_shortly(page, "Second of two")
    assert "?c=" in page.url != first
    page.reload()
    expect(messages(page).first).to_contain_text("Second of two")
    tab = page.context.new_page()
    tab.goto(first)
    expect(messages(tab).first).to_contain_text("First of two")
    page.go_back()
    expect(messages(page)).to_have_count(0)
    page.go_back()
    expect(messages(page).first).to_contain_text("First of two")


def test_two_tabs_on_one_conversation_add_to_it_one_after_the_other(page: Page) -> None:
    ask_shortly(page, "Asked in the first tab")
    tab = page.context.new_page()
    tab.goto(page.url)
    expect(messages(tab)).to_have_count(2)
    ask_shortly(tab, "Asked in the second tab")
    ask_shortly(page, "Asked in the first tab again")
    expect(messages(page)).to_have_count(6)
    for place, words in ((0, "the first tab"), (2, "the second tab"), (4, "the first tab again")):
        expect(messages(page).nth(place)).to_contain_text(f"Asked in {words}")


def test_a_question_that_another_tab_was_first_with_is_not_lost(page: Page) -> None:
    ask_shortly(page, "Asked before")
    tab = page.context.new_page()
    tab.goto(page.url)
    limit_output(tab, 500)
    ask(tab, LONG)
    expect(stop_button(tab)).to_be_visible()
    ask(page, "Do not lose me")
    expect(page.get_by_text("The model is still answering; stop it first.")).to_be_visible()
    expect(page.get_by_test_id("stChatInputTextArea")).to_have_value("Do not lose me")
    stop_button(page).click()
    expect(stop_button(page)).to_have_count(0)


def test_search_finds_words_of_questions_and_answers_in_any_language(page: Page) -> None:
    ask_shortly(page, "去北京的路有多远 zebra")
    box = page.get_by_placeholder("Search titles and messages")
    for words in ("zebra", "北京", "ZEBRA 北京"):
        box.fill(words)
        box.press("Enter")
        expect(page.get_by_text("1 found")).to_be_visible()
        expect(listed(page)).to_have_count(1)
    box.fill("no such words anywhere")
    box.press("Enter")
    expect(page.get_by_text("Nothing found.")).to_be_visible()
    expect(listed(page)).to_have_count(0)


def test_a_title_can_be_changed_and_a_conversation_pinned(page: Page) -> None:
    ask_shortly(page, "A conversation to be renamed")
    choose_in_menu(page, "Rename")
    page.get_by_role("textbox", name="Title").fill("Quite another title")
    page.get_by_role("button", name="Save").click()
    expect(listed(page).first).to_contain_text("Quite another title")
    choose_in_menu(page, "Pin")
    expect(page.get_by_text("Pinned", exact=True)).to_be_visible()
    page.get_by_role("button", name="New chat").click()
    ask_shortly(page, "A newer one")
    expect(listed(page).first).to_contain_text("Quite another title")
    choose_in_menu(page, "Unpin")
    expect(listed(page).first).to_contain_text("A newer one")


def test_deleting_can_be_undone(page: Page) -> None:
    ask_shortly(page, "To be deleted by mistake")
    count = listed(page).count()
    choose_in_menu(page, "Delete")
    expect(page.get_by_text("Deleted: To be deleted by mistake")).to_be_visible()
    expect(listed(page)).to_have_count(count - 1)
    expect(messages(page)).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(messages(page)).to_have_count(2)
    expect(listed(page)).to_have_count(count)


def test_a_deleted_conversation_is_no_longer_at_its_address(page: Page) -> None:
    ask_shortly(page, "To be deleted for good")
    address = page.url
    choose_in_menu(page, "Delete")
    expect(page.get_by_text("Deleted:")).to_be_visible()
    page.goto(address)
    expect(page.get_by_text("This conversation does not exist (any more).")).to_be_visible()


def test_answering_again_and_editing_keep_the_old_branches(page: Page) -> None:
    ask_shortly(page)
    page.get_by_role("button", name="refresh").click()
    expect(page.get_by_text("2/2")).to_be_visible()
    wait_until_answered(page)
    page.get_by_role("button", name="edit").click()
    page.get_by_role("textbox", name="Edit your question").fill("What is the capital of Italy?")
    page.get_by_role("button", name="Ask again").click()
    expect(messages(page).first).to_contain_text("Italy")
    wait_until_answered(page)
    expect(messages(page).first.get_by_text("2/2")).to_be_visible()
    page.get_by_role("button", name="chevron_left").first.click()
    expect(messages(page).first).to_contain_text("France")
    expect(messages(page).nth(1).get_by_text("2/2")).to_be_visible()
    messages(page).nth(1).get_by_role("button", name="chevron_left").click()
    expect(messages(page).nth(1).get_by_text("1/2")).to_be_visible()
    page.reload()
    expect(messages(page).nth(1).get_by_text("1/2")).to_be_visible()


def test_what_is_exported_can_be_imported_and_is_the_same(page: Page, tmp_path: Path) -> None:
    ask_shortly(page, "To be exported 出口")
    page.get_by_role("button", name="refresh").click()
    expect(page.get_by_text("2/2")).to_be_visible()
    wait_until_answered(page)
    answer = messages(page).nth(1).inner_text()
    choose_in_menu(page, "Export")
    exported = {}
    for kind in ("Markdown", "JSON"):
        with page.expect_download() as download:
            page.get_by_role("button", name=kind).click()
        exported[kind] = tmp_path / download.value.suggested_filename
        download.value.save_as(exported[kind])
    assert exported["JSON"].name == "To be exported 出口.json"
    assert "To be exported 出口" in exported["Markdown"].read_text()
    assert len(json.loads(exported["JSON"].read_text())["messages"]) == 3
    page.keyboard.press("Escape")
    before = page.url
    page.get_by_text("Import", exact=True).click()
    page.locator("input[type=file]").first.set_input_files(exported["JSON"])
    expect(messages(page)).to_have_count(2)
    page.wait_for_url(lambda url: url != before)
    expect(messages(page).nth(1).get_by_text("2/2")).to_be_visible()
    assert messages(page).nth(1).inner_text() == answer


def test_a_file_that_is_no_conversation_is_refused_with_the_reason(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text('{"hello": "world"}')
    page.get_by_text("Import", exact=True).click()
    page.locator("input[type=file]").first.set_input_files(file)
    expect(page.get_by_text("not a conversation")).to_be_visible()
    assert "Traceback" not in page.content()


def test_of_a_temporary_chat_nothing_is_stored(page: Page) -> None:
    count = listed(page).count()
    page.get_by_text("Temporary chat").click()
    ask_shortly(page, "Nobody shall know of this")
    expect(page.get_by_text("nothing of it is stored")).to_be_visible()
    expect(listed(page)).to_have_count(count)
    box = page.get_by_placeholder("Search titles and messages")
    box.fill("Nobody shall know")
    box.press("Enter")
    expect(page.get_by_text("Nothing found.")).to_be_visible()


def test_the_inspector_shows_the_exact_prompt_and_its_tokens(page: Page) -> None:
    ask_shortly(page, "Inspect <|im_start|>this")
    page.get_by_role("button", name="data_object").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("These are exactly the tokens that the model was given.")).to_be_visible()
    expect(dialog.get_by_text("<|im_start|>user")).to_be_visible()
    expect(dialog).to_contain_text("Inspect <|im_start|>this<|im_end|>")
    dialog.get_by_role("tab", name="Token ids").click()
    expect(dialog.get_by_text(re.compile(r"^1 9690 198 "))).to_be_visible()
    dialog.get_by_role("tab", name="Left out").click()
    expect(dialog.get_by_text("Nothing was left out")).to_be_visible()


def test_each_mode_goes_back_to_its_own_conversation(page: Page) -> None:
    ask_shortly(page, "Stay in Chat")
    page.get_by_role("radio", name="Tool").click()
    expect(messages(page)).to_have_count(0)
    assert "mode=tool" in page.url
    page.go_back()
    expect(messages(page).first).to_contain_text("Stay in Chat")
    page.get_by_role("radio", name="Tool").click()
    expect(messages(page)).to_have_count(0)
    page.get_by_role("radio", name="Chat").click()
    expect(messages(page).first).to_contain_text("Stay in Chat")


def test_enter_sends_and_shift_enter_breaks_the_line(page: Page) -> None:
    limit_output(page, 4)
    box = page.get_by_test_id("stChatInputTextArea")
    box.fill("one")
    box.press("Shift+Enter")
    box.press_sequentially("two")
    expect(box).to_have_value("one\ntwo")
    box.press("Enter")
    expect(messages(page).first).to_contain_text("one\ntwo")


def test_the_page_speaks_the_browsers_language_and_can_be_switched(
    own_app: str, open_page: Callable[..., Page]
) -> None:
    page = open_page(own_app, locale="zh-CN")
    expect(page.get_by_role("button", name="新对话")).to_be_visible()
    page.get_by_role("tab", name="设置").click()
    expect(page.get_by_text("系统提示词")).to_be_visible()
    page.get_by_role("radio", name="English").click()
    expect(page.get_by_role("button", name="New chat")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="New chat")).to_be_visible()


def test_a_killed_app_shows_the_cut_off_answer_which_goes_on(
    tmp_path: Path, open_page: Callable[..., Page]
) -> None:
    settings = {"MODEL_PATH": "embedded", "DATA_PATH": str(tmp_path)}
    with running_app(**settings) as address:
        page = open_page(address)
        page.get_by_test_id("stChatInputTextArea").wait_for(timeout=START_TIMEOUT)
        ask(page, LONG)
        wait_for_words(page, 30)
        words = messages(page).nth(1).inner_text().split()[:8]
        conversation = page.url.split("?")[1]
        address.kill()
    with running_app(**settings) as address:
        page = open_page(f"{address}/?{conversation}")
        expect(page.get_by_text("Cut off: the app ended while it was written")).to_be_visible(
            timeout=START_TIMEOUT
        )
        assert messages(page).nth(1).inner_text().split()[: len(words)] == words
        limit_output(page, 8)
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_text("Cut off")).to_have_count(0)
        wait_until_answered(page)
        assert messages(page).nth(1).inner_text().split()[: len(words)] == words


def test_many_conversations_are_shown_a_page_at_a_time(
    tmp_path: Path, open_page: Callable[..., Page]
) -> None:
    store = Store(open_database(tmp_path))
    fill(store, 60)
    store.close()
    with running_app(MODEL_PATH="embedded", DATA_PATH=str(tmp_path)) as address:
        page = open_page(address)
        expect(listed(page)).to_have_count(25, timeout=START_TIMEOUT)
        page.locator(".st-key-list-page").get_by_text("3", exact=True).click()
        expect(listed(page)).to_have_count(10)
        listed(page).last.get_by_role("button").click()
        expect(messages(page)).to_have_count(20)


def test_a_damaged_database_is_told_in_a_sentence_and_left_as_it_is(
    tmp_path: Path, open_page: Callable[..., Page]
) -> None:
    file = tmp_path / FILE_NAME
    file.write_bytes(b"This is no database. " * 1000)
    with running_app(MODEL_PATH="embedded", DATA_PATH=str(tmp_path)) as address:
        page = open_page(address)
        expect(page.get_by_text("is damaged; nothing in it was changed")).to_be_visible(timeout=START_TIMEOUT)
        assert file.read_bytes() == b"This is no database. " * 1000
        file.unlink()
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_test_id("stChatInputTextArea")).to_be_visible()


def test_deleting_the_last_one_of_a_page_shows_the_page_before(
    tmp_path: Path, open_page: Callable[..., Page]
) -> None:
    store = Store(open_database(tmp_path))
    fill(store, 26)
    store.close()
    with running_app(MODEL_PATH="embedded", DATA_PATH=str(tmp_path)) as address:
        page = open_page(address)
        expect(listed(page)).to_have_count(25, timeout=START_TIMEOUT)
        page.locator(".st-key-list-page").get_by_text("2", exact=True).click()
        expect(listed(page)).to_have_count(1)
        choose_in_menu(page, "Delete")
        expect(listed(page)).to_have_count(25)
