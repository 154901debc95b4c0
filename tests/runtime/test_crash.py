"""What is stored outlives its process, at whatever moment that is killed."""

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

from runtime.chats import Chats
from runtime.database import FILE_NAME
from tests.runtime.conftest import Place
from tests.runtime.processes import processes
from tests.runtime.writers import Report, open_only, words, write_by_chat, write_to_store

Writer = Callable[[Path, str, Connection], None]


def killed(writer: Writer, folder: Path, name: str, moment: int) -> list[Report]:
    """What the writer has reported until it was killed, which is after so many reports."""
    context = processes()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=writer, args=(folder, name, sender), daemon=True)
    process.start()
    sender.close()
    reports: list[Report] = []
    try:
        while len(reports) < moment:
            reports.append(receiver.recv())
        process.kill()
        while True:
            reports.append(receiver.recv())
    except EOFError:
        process.join()
        return reports


def integrity(folder: Path) -> list[tuple[str, ...]]:
    """What SQLite finds wrong with the file, and with its search index."""
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        connection.execute("INSERT INTO search_index (search_index, rank) VALUES ('integrity-check', 1)")
        return connection.execute("PRAGMA integrity_check").fetchall()


def check(place: Place, reported: dict[str, int]) -> None:
    """All that was reported can be loaded, and is shown as cut off."""
    chats = Chats(place.open())
    for conversation_id, number in reported.items():
        chat = chats.open("me", conversation_id)
        assert chat is not None
        question, answer = chat.snapshot().history
        stored = len(answer.content.split())
        assert number <= stored
        assert (question.content, answer.content) == ("count", words(stored))
        assert answer.ending == "interrupted"
    chats.store.close()


def test_nothing_that_was_stored_is_lost_when_its_process_is_killed(tmp_path: Path) -> None:
    place, moments, reported = Place(tmp_path), random.Random(5), dict[str, int]()
    for run in range(50):
        writer = moments.choice([write_to_store, write_by_chat])
        latest = dict(killed(writer, tmp_path, f"run-{run}", moments.randint(1, 40)))
        assert latest
        assert integrity(tmp_path) == [("ok",)]
        check(place, latest)
        reported |= latest
    check(place, reported)
    store = place.open()
    assert store.find("me", "count")[1] == store.find("me")[1] == len(reported) == 50
    store.close()


def test_a_database_can_be_opened_after_the_process_that_made_it_was_killed(tmp_path: Path) -> None:
    for moment in range(1, 30):  # statements
        folder = tmp_path / str(moment)
        killed(open_only, folder, "", moment)
        store = Place(folder).open()
        assert store.find("me") == ([], 0)
        store.close()
        assert integrity(folder) == [("ok",)]
