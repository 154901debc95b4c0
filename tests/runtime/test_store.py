"""Stored conversations, on SQLite and on PostgreSQL."""

import inspect
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from conversation import Conversation, Role
from runtime.errors import ConflictError, StoreError
from runtime.schema import conversations, messages
from runtime.store import MAX_TITLE, Heading, Store, Stored
from runtime.tree import Node, Tree, now
from tests.fakes import FULL_MESSAGE
from tests.runtime.conftest import KINDS, Place, empty_place
from tests.runtime.processes import run_in_processes

_owners = count()

START = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


def conversation(
    conversation_id: str, *contents: str, title: str = "", pinned: bool = False, minutes: int = 0
) -> Stored:
    """A conversation in which these were said in turn, last used `minutes` after START."""
    said = [Conversation(Role.ASSISTANT if n % 2 else Role.USER, words) for n, words in enumerate(contents)]
    heading = Heading(conversation_id, "chat", title, pinned, START + timedelta(minutes=minutes))
    return Stored(heading, Tree().add(None, said))


def found(store: Store, query: str = "", owner: str = "me") -> set[str]:
    return {heading.id for heading in store.find(owner, query)[0]}


def loaded(store: Store, conversation_id: str = "a", owner: str = "me") -> Stored:
    stored = store.load(owner, conversation_id)
    assert stored is not None
    return stored


def rows(store: Store) -> dict[str, int]:
    """How many rows there are in each table with something of a conversation."""
    with store._engine.connect() as connection:
        counts = {
            table.name: connection.scalar(select(func.count()).select_from(table))
            for table in (conversations, messages)
        }
        return counts | {"search": connection.scalar(text("SELECT count(*) FROM search"))}


# Coming back as it was


def test_a_conversation_comes_back_exactly(store: Store) -> None:
    tree = Tree().add(None, [Conversation(Role.USER, "1"), FULL_MESSAGE]).add(0, [FULL_MESSAGE]).choose(1)
    heading = Heading("a", "tool", "你好 👋", True, START)
    settings = {"system": "NUL \0, 你好, \ud800", "top_p": 0.1 + 0.2, "deep": [None, {"": True}]}
    assert store.create("me", Stored(heading, tree, settings)) == 1
    assert store.load("me", "a") == Stored(heading, tree, settings, version=1)
    assert store.version("me", "a") == 1


def test_changed_and_new_messages_are_saved_and_the_others_stay(store: Store) -> None:
    store.create("me", conversation("a", "one", "first", "two"))
    before = loaded(store).tree
    tree = before.put(2, [replace(FULL_MESSAGE, content="changed"), FULL_MESSAGE])
    changed = {number: tree.nodes[number] for number in (2, 3)}
    assert store.save("me", "a", 1, changed, tree.head, {"top_p": 0.5}) == 2
    after = loaded(store)
    assert (after.tree, after.settings, after.version) == (tree, {"top_p": 0.5}, 2)
    assert after.heading.updated > START


def test_showing_another_branch_or_keeping_settings_does_not_move_it_in_the_list(store: Store) -> None:
    store.create("me", conversation("a", "one", "first"))
    store.save("me", "a", 1, {}, 0, {"top_p": 0.5})
    after = loaded(store)
    assert (after.tree.head, after.settings, after.heading.updated) == (0, {"top_p": 0.5}, START)


def test_an_empty_conversation_comes_back(store: Store) -> None:
    store.create("me", Stored(Heading("a", "chat", "", False, START), Tree()))
    assert loaded(store).tree == Tree()


@pytest.mark.parametrize(
    ("title", "line"),
    [("  two\n lines\t", "two lines"), ("NUL\0!", "NUL !"), ("\ud800", "?"), ("好" * 300, "好" * MAX_TITLE)],
)
def test_a_title_is_one_line_of_text(store: Store, title: str, line: str) -> None:
    store.create("me", conversation("a", title=title))
    assert loaded(store).heading.title == line
    store.rename("me", "a", "other")
    store.rename("me", "a", title)
    assert store.find("me")[0][0].title == line


def test_an_empty_title_is_not_taken(store: Store) -> None:
    store.create("me", conversation("a", title="before"))
    store.rename("me", "a", " \0\n")
    assert loaded(store).heading.title == "before"


def test_a_second_conversation_with_the_same_id_is_refused(store: Store) -> None:
    store.create("me", conversation("a", "mine"))
    with pytest.raises(StoreError):
        store.create("me", conversation("a", "another"))
    assert [message.content for message in loaded(store).tree.messages()] == ["mine"]


@pytest.mark.parametrize("record", ["", "{", '{"parent": null, "message": {"role": "user", "from 2030": 1}}'])
def test_of_a_message_that_cannot_be_read_the_user_is_told(store: Store, record: str) -> None:
    store.create("me", conversation("a", "secret"))
    with store._engine.begin() as connection:
        connection.execute(text("UPDATE messages SET record = :record"), {"record": record})
    with pytest.raises(StoreError, match="damaged, or was written by a newer version") as failure:
        store.load("me", "a")
    assert failure.value.__suppress_context__  # its text has the message in it
    assert found(store) == {"a"}


# The list


def test_pinned_ones_come_first_and_then_the_newest(store: Store) -> None:
    for minutes, name in enumerate("abcd"):
        store.create("me", conversation(name, pinned=name in "ac", minutes=minutes))
    assert [heading.id for heading in store.find("me")[0]] == ["c", "a", "d", "b"]
    store.pin("me", "c", False)
    store.pin("me", "b", True)
    assert [heading.id for heading in store.find("me")[0]] == ["b", "a", "d", "c"]


def test_of_the_same_moment_the_last_created_comes_first(store: Store) -> None:
    for name in "abc":
        store.create("me", conversation(name))
    assert [heading.id for heading in store.find("me")[0]] == ["c", "b", "a"]


def test_the_list_is_read_in_stretches_and_tells_how_long_it_is(store: Store) -> None:
    for number in range(75):
        store.create("me", conversation(f"{number:02}", ["even", "odd"][number % 2], minutes=number))
    newest_first = [f"{number:02}" for number in reversed(range(75))]
    stretches = [store.find("me", offset=offset) for offset in (0, 30, 60, 90)]
    assert [heading.id for headings, _ in stretches for heading in headings] == newest_first
    assert [(len(headings), total) for headings, total in stretches] == [
        (30, 75),
        (30, 75),
        (15, 75),
        (0, 75),
    ]
    headings, total = store.find("me", "odd", offset=30, limit=5)
    assert ([heading.id for heading in headings], total) == (["13", "11", "09", "07", "05"], 37)


# Search

SYLLABLES = [chr(ord("가") + number) for number in range(24)]

# In it 576 trigrams begin with "é", more than are looked up.
COMMON = " ".join(f"é{a}{b}" for a in SYLLABLES for b in SYLLABLES)

TEXTS = {
    "weather": ("What is the weather in Paris?", "It is sunny, 25 °C."),
    "chinese": ("今天北京的天气怎么样?", "晴天,气温二十五度。"),
    "percent": ("a 100% sure_thing", "so it is!"),
    "quotes": ("""she said "hi" and 'bye'""", "C:\\path;--"),
    "nul": ("before\0after NUL", "\ud800 surrogate"),
    "end": ("the answer is ok", "yes it's up"),
    "case": ("ΑΘΗΝΑ Zürich ÉCOLE МОСКВА", "MiXeD"),
    "common": (COMMON, "𠀀𠀁𠀂"),
}


@pytest.fixture(scope="module", params=KINDS)
def library(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store with a conversation for each of TEXTS; not to be changed."""
    with empty_place(request.param, request) as place:
        store = place.open()
        for name, contents in TEXTS.items():
            title = "Reise nach Paris" if name == "weather" else "-"
            store.create("me", conversation(name, *contents, title=title))
        yield store
        store.close()


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("weather", "weather"),  # a question
        ("sunny", "weather"),  # an answer
        ("Reise", "weather"),  # a title
        ("eathe", "weather"),  # a part of a word
        ("unn", "weather"),
        ("天", "chinese"),
        ("天气", "chinese"),
        ("怎么样", "chinese"),
        ("今天北京", "chinese"),
        ("度。", "chinese"),
        ("𠀀", "common"),  # beyond 16 bits
        ("𠀁𠀂", "common"),
        ("𠀀𠀁𠀂", "common"),
        ("PARIS", "weather"),
        ("pArIs", "weather"),
        ("mixed", "case"),
        ("zÜRICH", "case"),
        ("αθηνα", "case"),
        ("москва", "case"),
        ("sunny 25", "weather"),  # several words, all in one text
        ("25 SUNNY it", "weather"),
        ("天气 北京", "chinese"),
        ("sunny paris", ""),  # in two texts
        ("%", "percent"),
        ("100%", "percent"),
        ("_", "percent"),
        ("e_t", "percent"),
        ("%sure", ""),
        ("!", "percent"),
        ("is!", "percent"),
        ('"', "quotes"),
        ('"hi"', "quotes"),
        ("'bye'", "quotes"),
        ("\\", "quotes"),
        (":\\path", "quotes"),
        (";--", "quotes"),
        ("NUL\0", "nul"),
        ("before\0after", "nul"),
        ("ok", "end"),
        ("up", "end"),
        ("k", "end"),
        ("é", "common case"),  # so common that the texts are read
        ("É", "common case"),
        ("é가각", "common"),
        ("é 각가", "common"),
        ("é !", ""),
        ("가각", "common"),
        ("nowhere", ""),
        ("zq", ""),
        ("q", ""),
        ("AND", "quotes"),  # no operators
        ("sunny OR москва", ""),
        ("sunny*", ""),
        ("NEAR(a b)", ""),
        ("text:sunny", ""),
        (":sunny", ""),
        ("(", ""),
        ("   ", " ".join(TEXTS)),
        ("\0", " ".join(TEXTS)),
        ("", " ".join(TEXTS)),
    ],
)
def test_a_search_finds_the_conversations_with_all_words_in_a_text(
    library: Store, query: str, names: str
) -> None:
    assert found(library, query) == set(names.split())
    assert library.find("me", query)[1] == len(names.split())


ALPHABET = "aAbB天气北京%_!\"'\\-. \n\0*:^"


@given(st.lists(st.text(ALPHABET), min_size=3, max_size=3), st.text(ALPHABET, max_size=4))
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_search_finds_what_reading_all_texts_would(store: Store, texts: list[str], query: str) -> None:
    owner = str(next(_owners))
    for number, contents in enumerate(texts):
        store.create(owner, conversation(f"{owner}-{number}", contents))
    words = query.lower().replace("\0", " ").split()
    expected = {
        f"{owner}-{number}"
        for number, contents in enumerate(texts)
        if all(word in contents.lower() for word in words)
    }
    assert found(store, query, owner) == expected


def test_after_renaming_the_new_title_is_found_and_the_old_one_is_not(store: Store) -> None:
    store.create("me", conversation("a", title="before"))
    store.rename("me", "a", "after")
    assert (found(store, "after"), found(store, "before")) == ({"a"}, set())


def test_after_a_change_the_new_text_is_found_and_the_old_one_is_not(store: Store) -> None:
    store.create("me", conversation("a", "before"))
    node = replace(loaded(store).tree.nodes[0], message=Conversation(Role.USER, "after"))
    store.save("me", "a", 1, {0: node}, 0, {})
    assert (found(store, "after"), found(store, "before")) == ({"a"}, set())


def test_texts_of_every_branch_are_found(store: Store) -> None:
    tree = conversation("a", "question", "first").tree
    store.create("me", Stored(conversation("a").heading, tree.add(0, [Conversation(Role.ASSISTANT, "2nd")])))
    assert found(store, "first") == found(store, "2nd") == {"a"}


# Deleting


def test_a_deleted_conversation_is_neither_listed_nor_found_nor_loaded(store: Store) -> None:
    store.create("me", conversation("a", "one", title="title"))
    store.delete("me", "a")
    assert store.find("me") == store.find("me", "one") == store.find("me", "title") == ([], 0)
    assert (store.load("me", "a"), store.version("me", "a")) == (None, None)


def test_restoring_brings_all_of_it_back(store: Store) -> None:
    store.create("me", conversation("a", "one", "first", title="title"))
    before = loaded(store)
    store.delete("me", "a")
    store.restore("me", "a")
    assert loaded(store) == before
    assert found(store, "first") == found(store, "title") == {"a"}


def test_an_answer_is_saved_also_to_a_deleted_conversation_for_when_it_is_restored(store: Store) -> None:
    store.create("me", conversation("a", "one"))
    store.delete("me", "a")
    store.save("me", "a", 1, {1: Node(0, FULL_MESSAGE, now())}, 1, {})
    assert store.load("me", "a") is None
    store.restore("me", "a")
    assert loaded(store).tree.messages()[-1] == FULL_MESSAGE


def test_purging_removes_it_for_good_and_the_others_stay(store: Store) -> None:
    for name in ("kept", "deleted", "lately"):
        store.create("me", conversation(name, "one", "first"))
    store.delete("me", "deleted")
    before = now()
    store.delete("me", "lately")
    store.purge(deleted_before=before)
    store.restore("me", "deleted")
    store.restore("me", "lately")
    assert found(store) == found(store, "first") == {"kept", "lately"}
    assert rows(store) == {"conversations": 2, "messages": 4, "search": 6}


def test_what_was_deleted_just_now_is_not_purged(store: Store) -> None:
    store.create("me", conversation("a", "one"))
    store.delete("me", "a")
    store.purge()
    store.restore("me", "a")
    assert found(store) == {"a"}


def test_the_texts_of_a_purged_conversation_are_not_taken_for_those_of_a_later_one(store: Store) -> None:
    store.create("me", conversation("a", "old"))
    store.delete("me", "a")
    store.purge(deleted_before=now())
    store.create("me", conversation("b", "new"))
    assert (found(store, "old"), found(store, "new")) == (set(), {"b"})


def test_what_is_restored_while_it_is_purged_stays(place: Place, store: Store) -> None:
    if place.url is None:
        pytest.skip("SQLite lets only one write at a time")
    store.create("me", conversation("a", "one"))
    store.delete("me", "a")
    purge = threading.Thread(target=store.purge, args=(now(),))
    with store._engine.connect() as restoring, store._engine.connect() as watching:
        restoring.execute(text("UPDATE conversations SET deleted_at = NULL"))
        purge.start()
        while purge.is_alive() and not watching.scalar(text("SELECT 1 FROM pg_locks WHERE NOT granted")):
            watching.rollback()
        restoring.commit()
    purge.join()
    assert found(store) == found(store, "one") == {"a"}
    assert len(loaded(store).tree.nodes) == 1


def test_saving_to_a_purged_conversation_says_that_it_is_gone(store: Store) -> None:
    with pytest.raises(LookupError):
        store.save("me", "nowhere", 1, {}, None, {})


# Several writers


def test_saving_on_top_of_another_version_is_refused_and_changes_nothing(store: Store) -> None:
    store.create("me", conversation("a", "one", "first"))
    store.save("me", "a", 1, {}, 0, {})
    before, counts = loaded(store), rows(store)
    for version in (1, 3):
        with pytest.raises(ConflictError):
            store.save("me", "a", version, {1: Node(0, FULL_MESSAGE, now())}, 1, {"top_p": 1})
    assert (loaded(store), rows(store)) == (before, counts)


def write(place: Place, name: str) -> None:
    """Create ten conversations, and add ten messages to the one that all writers share."""
    store = place.open()
    for number in range(10):
        store.create("me", conversation(f"{name}-{number}", name))
        saved = False
        while not saved:
            shared = loaded(store, "shared")
            tree = shared.tree.add(shared.tree.head, [Conversation(Role.USER, f"{name}-{number}")])
            place_in_tree = len(tree.nodes) - 1
            changed = {place_in_tree: tree.nodes[place_in_tree]}
            try:
                store.save("me", "shared", shared.version, changed, tree.head, {})
                saved = True
            except ConflictError:
                pass
    store.close()


def write_in_threads(place: Place, names: list[str]) -> None:
    threads = [threading.Thread(target=write, args=(place, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def write_in_processes(place: Place, names: list[str]) -> None:
    run_in_processes(write, [(place, name) for name in names])


@pytest.mark.parametrize("write_at_once", [write_in_threads, write_in_processes])
def test_of_several_writers_at_once_nothing_is_lost(
    place: Place, store: Store, write_at_once: Callable[[Place, list[str]], None]
) -> None:
    store.create("me", conversation("shared"))
    names = ["x", "y"]
    write_at_once(place, names)
    written = {f"{name}-{number}" for name in names for number in range(10)}
    shared = loaded(store, "shared")
    path = [message.content for message in shared.tree.messages()]
    assert len(path) == 20
    assert set(path) == written
    assert shared.version == 21
    listed, total = store.find("me", limit=100)
    assert total == 21
    assert {heading.id for heading in listed} == {"shared", *written}
    assert rows(store) == {"conversations": 21, "messages": 40, "search": 61}


# Owners

# What each method is called with, beside the owner.
CALLS: dict[str, Callable[[Any], Any]] = {
    "find": lambda call: call("secret"),
    "load": lambda call: call("a"),
    "version": lambda call: call("a"),
    "create": lambda call: call(conversation("a", "stolen")),
    "save": lambda call: call("a", 1, {0: Node(None, FULL_MESSAGE, now())}, None, {}),
    "rename": lambda call: call("a", "stolen"),
    "pin": lambda call: call("a", True),
    "delete": lambda call: call("a"),
    "restore": lambda call: call("a"),
}

METHODS = {
    name: inspect.signature(method).parameters
    for name, method in inspect.getmembers(Store, inspect.isfunction)
    if not name.startswith("_")
}


def test_every_method_but_those_of_the_house_takes_an_owner_first() -> None:
    of_the_house = {name for name, parameters in METHODS.items() if list(parameters)[1:2] != ["owner"]}
    assert of_the_house == {"close", "purge"}
    assert METHODS.keys() - of_the_house == CALLS.keys()


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("deleted", [False, True])
def test_anothers_conversation_is_neither_shown_nor_changed(store: Store, name: str, deleted: bool) -> None:
    store.create("me", conversation("a", "secret", title="secret"))
    if deleted:
        store.delete("me", "a")
    before = everything(store)
    method = getattr(store, name)
    try:
        shown = CALLS[name](lambda *arguments: method("somebody else", *arguments))
    except (LookupError, StoreError) as refusal:
        shown = str(refusal)
    assert "secret" not in repr(shown)
    assert shown in (None, ([], 0)) or name in ("save", "create")
    assert everything(store) == before


def everything(store: Store) -> list[Any]:
    """All rows of all tables."""
    with store._engine.connect() as connection:
        return [
            connection.execute(text(f"SELECT {columns} FROM {table} ORDER BY 1, 2")).all()
            for columns, table in (("*", "conversations"), ("*", "messages"), ("rowid, text", "search"))
        ]
