"""How the number of stored conversations weighs: opening the page, and searching.

    python -m benchmarks.conversations [--conversations 10000]

Fills one database with 10 conversations of 20 messages and one with many, serves the
real app on each, and opens the two pages in turn in headless Chromium, from the address
to the drawn list. Then times searches in the large one, without a page. Needs
requirements-dev.txt and Chromium. The database is SQLite, or that of DATABASE_URL,
which must be empty.
"""

import argparse
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from conversation import Conversation, Role
from runtime.database import open_database
from runtime.store import Heading, Store, Stored
from runtime.tree import Tree, now

MESSAGES = 20
ROUNDS = 10
SEARCHES = ("zebra", "烤鸭", "京", "people", "the", "th", "e", "的", "时间", "there would", "no such words")

_ENGLISH = """
the of and to in a is that for it as was with be by on not he his but at are this have from or had an they
which one you were her all she there would their we him been has when who will no more if out so said what
up its about into than them can only other new some could time these two may then do first any my now such
"""
_SYLLABLES = "al be cor da e fin gra hol i jun ka lo men no or pre qui ra ser ter u ver wex xy yon za ti mo"
_CHINESE = (
    "的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下而过天去能对小多然于心学么之都"
    "好看起发当没成只如事把还用第样道想作种开美总从无情己面最女但现前些所同日手又行意动方期它头经长儿回位分爱老因很给名法间"
)


def fill(store: Store, conversations: int, seed: int = 1) -> None:
    """Conversations of twenty messages, half of them Chinese; two rare words in one."""
    chance = random.Random(seed)
    for number in range(conversations):
        messages = [
            Conversation(Role.ASSISTANT if place % 2 else Role.USER, _words(chance, number % 2 == 0))
            for place in range(MESSAGES)
        ]
        if number == conversations // 2:
            messages[7] = Conversation(Role.ASSISTANT, "北京烤鸭 zebra")
        updated = now() - timedelta(hours=conversations - number)
        heading = Heading(f"bench-{number}", "chat", messages[0].content[:50], False, updated)
        store.create("local", Stored(heading, Tree().add(None, messages)))


def _words(chance: random.Random, english: bool) -> str:
    if english:
        common, rare = _ENGLISH.split(), _SYLLABLES.split()
        words = [*chance.choices(common, k=30), *("".join(chance.choices(rare, k=3)) for _ in range(10))]
        return " ".join(chance.sample(words, k=40))
    return "".join(chance.choices(_CHINESE, k=100))


@contextmanager
def serving(data: Path) -> Iterator[str]:
    """The app's address, with the conversations in this folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "streamlit", "run", "main.py", "--server.port", port]
    environment = os.environ | {"DATA_PATH": str(data), "MODEL_PATH": "embedded"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("URL:" in line for line in process.stdout)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.communicate(timeout=30)


def seconds_to_open(browser: Browser, address: str) -> float:
    """From the address to the drawn list, in a browser that was never there."""
    with browser.new_context() as context:
        page = context.new_page()
        start = time.perf_counter()
        page.goto(address)
        page.locator("[class*='st-key-menu-']").nth(9).wait_for(timeout=300_000)
        page.get_by_test_id("stChatInputTextArea").wait_for()
        return time.perf_counter() - start


def compare_pages(few: Path, many: Path) -> None:
    with serving(few) as one, serving(many) as other, sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for address in (one, other):  # the model loads at the first page
            seconds_to_open(browser, address)
        pairs = [(seconds_to_open(browser, one), seconds_to_open(browser, other)) for _ in range(ROUNDS)]
        browser.close()
    ratio = statistics.median(many / few for few, many in pairs)
    first, second = (statistics.median(times) for times in zip(*pairs, strict=True))
    print("| opening the page | s |\n|---|---|")
    print(f"| with 10 conversations | {first:.2f} |\n| with many | {second:.2f} |")
    print(f"| ratio, median of {ROUNDS} pairs | {ratio:.2f} |\n")


def time_searches(store: Store) -> None:
    print("| search | found | ms |\n|---|---|---|")
    for query in SEARCHES:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            _, found = store.find("local", query)
            times.append(time.perf_counter() - start)
        print(f"| {query} | {found:,} | {statistics.median(times) * 1000:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--conversations", type=int, default=10_000)
    parser.add_argument("--pages", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        few, many = Path(folder) / "few", Path(folder) / "many"
        url = os.environ.get("DATABASE_URL")
        store = Store(open_database(many, url))
        fill(store, options.conversations)
        if options.pages and not url:
            smaller = Store(open_database(few))
            fill(smaller, 10)
            smaller.close()
            compare_pages(few, many)
        time_searches(store)
        store.close()


if __name__ == "__main__":
    main()
