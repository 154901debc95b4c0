"""What a person does on the page, and what they see there."""

import re

from playwright.sync_api import Locator, Page, expect

LONG = "Tell me a long story about a ship, its captain and the sea."
SHORT = "What is the capital of France?"


def ask(page: Page, question: str) -> None:
    box = page.get_by_test_id("stChatInputTextArea")
    expect(box).to_be_enabled()
    box.fill(question)
    box.press("Enter")


def messages(page: Page) -> Locator:
    return page.get_by_test_id("stChatMessage")


def answer_text(page: Page) -> str:
    return messages(page).nth(1).inner_text()


def suggestion(page: Page) -> Locator:
    """The first question that an empty conversation suggests."""
    return page.get_by_role("main").get_by_role("button", name=SHORT)


def stop_button(page: Page) -> Locator:
    return page.get_by_role("button", name=re.compile("^Stop|Stop Esc"))


def wait_for_words(page: Page, more_than: int) -> None:
    """Wait until the first answer has more words than that."""
    expect(messages(page).nth(1)).to_have_text(re.compile(rf"(\w+\W+){{{more_than},}}"))


def limit_output(page: Page, tokens: int) -> None:
    """Set the output length; the embedded model can go on for long."""
    page.get_by_role("tab", name="Settings").click()
    box = page.get_by_role("spinbutton", name="Output length")
    box.fill(str(tokens))
    box.press("Enter")
    page.get_by_role("tab", name="Conversations").click()


def answer_greedily(page: Page) -> None:
    """Set the temperature to 0, for the answer that is the model's own, not chance's."""
    page.get_by_role("tab", name="Settings").click()
    page.get_by_role("slider", name="Temperature").press("Home")
    page.get_by_role("tab", name="Conversations").click()


def ask_shortly(page: Page, question: str = SHORT, tokens: int = 12) -> None:
    """Ask, and wait for a short answer."""
    limit_output(page, tokens)
    ask(page, question)
    expect(messages(page).filter(has_text=question.split("*")[0]).last).to_be_visible()
    wait_until_answered(page)


def wait_until_answered(page: Page) -> None:
    expect(messages(page).last.get_by_text("first after")).to_be_visible()
    expect(stop_button(page)).to_have_count(0)


def listed(page: Page) -> Locator:
    """The conversations in the sidebar's list."""
    return page.locator("[class*='st-key-open-']")


def choose_in_menu(page: Page, action: str, row: int = 0) -> None:
    """Choose from the menu of a conversation in the list."""
    page.get_by_test_id("stMenuButtonButton").nth(row).click()
    page.get_by_text(action, exact=True).click()
