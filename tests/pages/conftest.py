"""The real app in a process of its own, and a headless Chromium to look at it with."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# Answers come from a real model on a shared CPU; a first start downloads and converts it.
ANSWER_TIMEOUT = 60_000  # milliseconds
START_TIMEOUT = 300_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.page)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="no Chromium here"))


class App(str):
    """A running app: its address."""

    process: subprocess.Popen[str]

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running_app(*options: str, **settings: str) -> Iterator[App]:
    """The app, served by a process that ends with this block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "main.py", "--server.port", str(port), *options]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert any("URL:" in line for line in process.stdout), "the app did not start"
            app = App(f"http://127.0.0.1:{port}")
            app.process = process
            yield app
        finally:
            process.terminate()
            process.communicate(timeout=30)  # it still writes while it ends


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app with the embedded model."""
    data = tmp_path_factory.mktemp("data")
    with running_app(MODEL_PATH="embedded", DATA_PATH=str(data)) as address:
        yield address


@pytest.fixture(scope="session")
def tiny_app(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app with the small random ChatGLM3, whose context is 512 tokens."""
    data = tmp_path_factory.mktemp("data")
    with running_app(MODEL_PATH=str(tiny_folder), DEVICE="cpu", DATA_PATH=str(data)) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync", "--no-sandbox"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens an address in a browser profile of its own, as another person would."""
    contexts = []

    def open_(address: str, **options: object) -> Page:
        contexts.append(browser.new_context(**options))  # type: ignore[arg-type]
        page = contexts[-1].new_page()
        page.set_default_timeout(ANSWER_TIMEOUT)
        page.goto(address)
        return page

    expect.set_options(timeout=ANSWER_TIMEOUT)
    yield open_
    for context in contexts:
        context.close()


@pytest.fixture
def page(app: str, open_page: Callable[..., Page]) -> Page:
    """A new conversation in Chat mode."""
    page = open_page(app)
    page.get_by_test_id("stChatInputTextArea").wait_for(timeout=START_TIMEOUT)
    return page
