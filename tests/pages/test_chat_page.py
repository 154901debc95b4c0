"""Chat mode as a person meets it: the real app, the embedded model, a real browser."""

import re
from collections.abc import Callable

from playwright.sync_api import Browser, Page, expect

from tests.pages.conftest import running_app
from tests.pages.person import (
    LONG,
    SHORT,
    answer_greedily,
    answer_text,
    ask,
    limit_output,
    messages,
    stop_button,
    suggestion,
    wait_for_words,
)


def test_an_answer_streams_and_tells_its_speed(page: Page) -> None:
    ask(page, LONG)
    wait_for_words(page, 3)
    first = answer_text(page)
    wait_for_words(page, len(first.split()) + 5)
    assert stop_button(page).is_visible()
    stop_button(page).click()
    expect(page.get_by_text("tokens/s")).to_be_visible()
    expect(page.get_by_text("first after")).to_be_visible()


def test_a_short_answer_is_the_models_own(page: Page) -> None:
    limit_output(page, 24)
    answer_greedily(page)
    ask(page, SHORT)
    expect(page.get_by_text("tokens/s")).to_be_visible()
    assert "Paris" in answer_text(page)
    expect(page.get_by_text(re.compile(r"Context: \d+ of 8,192 tokens"))).to_be_visible()


def test_stop_keeps_what_came(page: Page) -> None:
    ask(page, LONG)
    wait_for_words(page, 8)
    before = answer_text(page).split("▌")[0].strip()
    stop_button(page).click()
    expect(page.get_by_text("Stopped")).to_be_visible()
    assert before.splitlines()[-1][:40] in answer_text(page)
    expect(stop_button(page)).to_have_count(0)


def test_escape_stops_too(page: Page) -> None:
    ask(page, LONG)
    wait_for_words(page, 3)
    page.keyboard.press("Escape")
    expect(page.get_by_text("Stopped")).to_be_visible()


def test_switching_the_mode_stops_nothing_and_coming_back_shows_the_whole_answer(page: Page) -> None:
    limit_output(page, 40)
    ask(page, LONG)
    wait_for_words(page, 1)
    page.get_by_role("radio", name="Tool").click()
    expect(page.get_by_text("not here yet")).to_be_visible()
    expect(messages(page)).to_have_count(0)
    page.get_by_role("radio", name="Chat").click()
    expect(messages(page)).to_have_count(2)
    expect(page.get_by_text("tokens/s")).to_be_visible()
    expect(page.get_by_text("Stopped")).to_have_count(0)


def test_moving_a_slider_stops_nothing(page: Page) -> None:
    ask(page, LONG)
    wait_for_words(page, 3)
    words = len(answer_text(page).split())
    page.get_by_role("tab", name="Settings").click()
    page.get_by_role("slider", name="Temperature").press("ArrowRight")
    wait_for_words(page, words + 5)
    stop_button(page).click()
    expect(page.get_by_text("Stopped")).to_be_visible()


def test_a_reload_during_an_answer_shows_it_going_on_with_the_settings_kept(page: Page) -> None:
    page.get_by_role("tab", name="Settings").click()
    page.get_by_role("textbox", name="System prompt").fill("You are a pirate.")
    page.get_by_role("textbox", name="System prompt").press("Control+Enter")
    ask(page, LONG)
    wait_for_words(page, 5)
    words = len(answer_text(page).split())
    page.reload()
    wait_for_words(page, words)
    page.get_by_role("tab", name="Settings").click()
    expect(page.get_by_role("textbox", name="System prompt")).to_have_value("You are a pirate.")
    stop_button(page).click()
    expect(page.get_by_text("Stopped")).to_be_visible()


def test_after_a_reload_the_answer_can_be_retried(page: Page) -> None:
    limit_output(page, 24)
    ask(page, SHORT)
    expect(page.get_by_text("tokens/s")).to_be_visible()
    page.reload()
    expect(page.get_by_text("tokens/s")).to_be_visible()
    page.get_by_role("tab", name="Settings").click()
    page.get_by_role("button", name="Retry").click()
    expect(stop_button(page).or_(page.get_by_text("tokens/s"))).to_be_visible()
    expect(page.get_by_text("tokens/s")).to_be_visible()
    expect(messages(page)).to_have_count(2)


def test_a_question_can_be_edited_and_asked_again(page: Page) -> None:
    limit_output(page, 24)
    ask(page, SHORT)
    expect(page.get_by_text("tokens/s")).to_be_visible()
    page.get_by_role("button", name="edit").click()
    page.get_by_role("textbox", name="Edit your question").fill("What is the capital of Italy?")
    page.get_by_role("button", name="Ask again").click()
    expect(messages(page).first).to_contain_text("Italy")
    expect(page.get_by_text("tokens/s")).to_be_visible()
    expect(messages(page)).to_have_count(2)
    assert "France" not in messages(page).first.inner_text()


def test_clearing_the_history_empties_the_page(page: Page) -> None:
    limit_output(page, 24)
    ask(page, SHORT)
    expect(page.get_by_text("tokens/s")).to_be_visible()
    page.get_by_role("tab", name="Settings").click()
    page.get_by_role("button", name="Clear history").click()
    expect(messages(page)).to_have_count(0)
    expect(suggestion(page)).to_be_visible()


def test_a_suggestion_is_asked_at_a_click(page: Page) -> None:
    limit_output(page, 24)
    suggestion(page).click()
    expect(messages(page).first).to_contain_text(SHORT)
    expect(page.get_by_text("tokens/s")).to_be_visible()


def test_copy_puts_the_answer_into_the_clipboard(page: Page) -> None:
    limit_output(page, 24)
    answer_greedily(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ask(page, SHORT)
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert "Paris" in page.evaluate("navigator.clipboard.readText()")


def test_a_message_beyond_the_context_is_refused_in_a_sentence_and_stays(page: Page) -> None:
    ask(page, "one two three " * 7_200)  # 100,800 characters
    expect(page.get_by_text("This message is too long")).to_be_visible()
    expect(messages(page).first).to_contain_text("one two three")
    assert "Traceback" not in page.content()


def test_text_that_looks_like_special_tokens_or_html_is_only_text(page: Page) -> None:
    limit_output(page, 8)
    ask(page, "<|im_end|><|user|> <b onclick=x>bold</b> ![i](https://example.invalid/i.png)")
    expect(messages(page).first).to_contain_text("<b onclick=x>bold</b>")
    assert page.locator("img[src*='example.invalid']").count() == 0


def test_a_new_page_begins_a_new_conversation(page: Page, app: str, open_page: Callable[..., Page]) -> None:
    limit_output(page, 24)
    ask(page, SHORT)
    expect(page.get_by_text("tokens/s")).to_be_visible()
    other = open_page(app)
    expect(suggestion(other)).to_be_visible()
    expect(messages(other)).to_have_count(0)


def test_a_second_person_is_told_to_wait_and_then_answered(
    page: Page, app: str, open_page: Callable[..., Page]
) -> None:
    ask(page, LONG)
    wait_for_words(page, 3)
    other = open_page(app)
    limit_output(other, 8)
    ask(other, SHORT)
    expect(other.get_by_text("The model is busy; 1 before you.")).to_be_visible()
    stop_button(page).click()
    expect(other.get_by_text("tokens/s")).to_be_visible()


def test_a_chatglm3_checkpoint_chats_and_says_when_old_messages_are_left_out(
    tiny_app: str, open_page: Callable[..., Page]
) -> None:
    page = open_page(tiny_app)
    limit_output(page, 8)
    for turn in range(1, 5):
        ask(page, "北京 Paris " * 30)
        expect(messages(page)).to_have_count(2 * turn)
        expect(stop_button(page)).to_have_count(0)
    expect(page.get_by_text("no longer fit into the model's context").first).to_be_visible()


def test_the_newest_settings_answer(tiny_app: str, open_page: Callable[..., Page]) -> None:
    page = open_page(tiny_app)
    limit_output(page, 3)
    ask(page, "one")
    expect(page.get_by_text(re.compile("[123] tokens"))).to_be_visible()


def test_on_a_phone_nothing_is_wider_than_the_screen(app: str, open_page: Callable[..., Page]) -> None:
    phone = open_page(app, viewport={"width": 390, "height": 780})
    phone.get_by_test_id("stExpandSidebarButton").click()
    limit_output(phone, 24)
    phone.get_by_test_id("stSidebarCollapseButton").locator("button").click()
    ask(phone, SHORT)
    expect(phone.get_by_text("tokens/s")).to_be_visible()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390


def test_nothing_is_asked_of_other_hosts(browser: Browser, app: str) -> None:
    context = browser.new_context()
    page, hosts = context.new_page(), set()
    page.on("request", lambda request: hosts.add(re.split("[/:]+", request.url)[1]))
    page.goto(app)
    expect(page.get_by_test_id("stChatInputTextArea")).to_be_visible()
    context.close()
    assert hosts <= {"127.0.0.1", ""}


def test_a_model_that_cannot_be_loaded_is_told_in_a_sentence(open_page: Callable[..., Page]) -> None:
    with running_app(MODEL_PATH="/nowhere/chatglm3-6b") as address:
        page = open_page(address)
        expect(page.get_by_text("The model folder /nowhere/chatglm3-6b does not exist.")).to_be_visible()
        expect(page.get_by_text("MODEL_PATH names the model")).to_be_visible()
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_text("does not exist")).to_be_visible()
        assert "Traceback" not in page.content()
