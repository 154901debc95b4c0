"""Who sees what: sign-in with a real OpenID Connect provider, and none at all."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.pages.conftest import START_TIMEOUT, App, running_app
from tests.pages.oidc import Provider
from tests.pages.person import ask_shortly, listed, messages


@pytest.fixture(scope="module")
def guarded_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with sign-in; alice and bob have accounts."""
    folder = tmp_path_factory.mktemp("guarded")
    secrets = folder / "secrets.toml"
    with Provider("alice", "bob") as provider:
        secrets.write_text(provider.secrets())
        with running_app(
            "--secrets.files", str(secrets), MODEL_PATH="embedded", DATA_PATH=str(folder / "data")
        ) as app:
            yield app


def sign_in(page: Page, name: str) -> None:
    page.get_by_role("button", name="Sign in").click(timeout=START_TIMEOUT)
    page.get_by_role("link", name=name).click()
    expect(page.get_by_text(f"{name}@example.org")).to_be_visible(timeout=START_TIMEOUT)


def test_nobody_sees_anything_before_they_sign_in(guarded_app: App, open_page: Callable[..., Page]) -> None:
    page = open_page(guarded_app)
    expect(page.get_by_role("button", name="Sign in")).to_be_visible(timeout=START_TIMEOUT)
    expect(page.get_by_test_id("stChatInputTextArea")).to_have_count(0)
    expect(page.get_by_test_id("stSidebar")).to_have_count(0)


def test_each_sees_their_own_conversations_only(guarded_app: App, open_page: Callable[..., Page]) -> None:
    alice, bob = open_page(guarded_app), open_page(guarded_app)
    sign_in(alice, "alice")
    ask_shortly(alice, "The secret of alice")
    sign_in(bob, "bob")
    expect(bob.get_by_text("Your conversations will be listed here.")).to_be_visible()
    bob.goto(alice.url)
    expect(bob.get_by_text("This conversation does not exist (any more).")).to_be_visible()
    expect(messages(bob)).to_have_count(0)
    box = bob.get_by_placeholder("Search titles and messages")
    box.fill("secret")
    box.press("Enter")
    expect(bob.get_by_text("Nothing found.")).to_be_visible()
    alice.reload()
    expect(messages(alice).first).to_contain_text("The secret of alice")
    expect(listed(alice)).to_have_count(1)


def test_who_signs_out_sees_nothing_more(guarded_app: App, open_page: Callable[..., Page]) -> None:
    page = open_page(guarded_app)
    sign_in(page, "alice")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(listed(page)).to_have_count(0)


def test_secrets_that_cannot_be_read_let_nobody_in(tmp_path: Path, open_page: Callable[..., Page]) -> None:
    secrets = tmp_path / "secrets.toml"
    secrets.write_text("[auth\nclient_id = ")
    with running_app(
        "--secrets.files", str(secrets), MODEL_PATH="embedded", DATA_PATH=str(tmp_path / "data")
    ) as app:
        page = open_page(app)
        expect(page.get_by_text("nobody is let in")).to_be_visible(timeout=START_TIMEOUT)
        expect(page.get_by_test_id("stChatInputTextArea")).to_have_count(0)


def test_a_public_address_without_sign_in_is_warned_of_on_the_page_and_in_the_log(
    tmp_path: Path, open_page: Callable[..., Page]
) -> None:
    with running_app("--server.address", "0.0.0.0", MODEL_PATH="embedded", DATA_PATH=str(tmp_path)) as app:
        page = open_page(app)
        expect(page.get_by_text(re.compile("everybody who opens it sees"))).to_be_visible(
            timeout=START_TIMEOUT
        )
        assert app.process.stdout is not None
        app.process.terminate()
        assert "served on a public address without sign-in" in app.process.communicate(timeout=30)[0]
