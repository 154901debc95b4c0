"""Opening databases: new ones, old ones, and those that cannot be used."""

import hashlib
import os
import pwd
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from tempfile import TemporaryDirectory

import alembic.command
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, create_engine, event, inspect, text

import runtime
from conversation import Conversation, Role
from runtime.database import FILE_NAME, open_database
from runtime.errors import StoreError
from runtime.records import Record, to_json
from runtime.schema import metadata
from runtime.store import Heading, Store, Stored
from runtime.tree import Node, Tree, now
from tests.fakes import FULL_MESSAGE
from tests.runtime.conftest import Place
from tests.runtime.processes import processes, run_in_processes

SEARCH_TABLES = ("search", "search_")  # which are SQL in the migration, not in the metadata


def conversation(conversation_id: str, *contents: str) -> Stored:
    tree = Tree().add(None, [Conversation(Role.USER, words) for words in contents])
    return Stored(Heading(conversation_id, "chat", "title", False, now()), tree)


def filled(folder: Path) -> Path:
    """The file of a closed SQLite database with 50 conversations."""
    store = Place(folder).open()
    for number in range(50):
        store.create("me", conversation(str(number), f"question {number} " * 50))
    store.close()
    return folder / FILE_NAME


def digest(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None


def refusal(place: Place) -> StoreError:
    """How opening this fails."""
    with pytest.raises(StoreError) as failure:
        open_database(place.folder, place.url)
    return failure.value


@contextmanager
def unchanged(file: Path) -> Iterator[None]:
    """Whatever is done meanwhile, the file's bytes are the same."""
    before = digest(file)
    yield
    assert digest(file) == before


# The schema


def differences(engine: Engine) -> list[object]:
    """Where the database is not as the metadata say."""
    with engine.connect() as connection:
        options = {
            "compare_type": True,
            "include_name": lambda name, kind, _: kind != "table" or not name.startswith(SEARCH_TABLES),
        }
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)


def test_an_empty_place_gets_the_schema_that_the_code_knows(place: Place) -> None:
    engine = open_database(place.folder, place.url)
    assert differences(engine) == []
    engine.dispose()


def test_opening_it_again_changes_nothing(place: Place) -> None:
    store = place.open()
    store.create("me", conversation("a", "hello"))
    before = store.load("me", "a")
    store.close()
    again = place.open()
    assert again.load("me", "a") == before
    again.close()


def engine_of(place: Place) -> Engine:
    """An engine of our own, which knows nothing of the app's schema."""
    address = place.url or f"sqlite:///{place.folder / FILE_NAME}"
    return create_engine(address.replace("postgresql:", "postgresql+psycopg:"))


def make_first_schema(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(runtime.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0001")


def test_a_database_of_the_first_schema_keeps_its_data_which_can_then_be_searched(place: Place) -> None:
    engine = engine_of(place)
    make_first_schema(engine)
    nodes = [Node(None, Conversation(Role.USER, "北京 lone \ud800"), now()), Node(0, FULL_MESSAGE, now())]
    with engine.begin() as connection:
        columns = "key, id, owner, mode, title, pinned, head, settings, version, created_at, updated_at"
        values = "7, 'a', 'me', 'chat', 'Ein Titel', :yes, 1, '{}', 3, :now, :now"
        insert = text(f"INSERT INTO conversations ({columns}) VALUES ({values})")
        time = now() if place.url else now().replace(tzinfo=None)
        connection.execute(insert, {"yes": True, "now": str(time)})
        for number, node in enumerate(nodes):
            insert = text("INSERT INTO messages VALUES (7, :number, :record)")
            connection.execute(insert, {"number": number, "record": to_json(Record.of(node))})
    engine.dispose()
    store = place.open()
    stored = store.load("me", "a")
    assert stored is not None
    assert stored.tree.messages() == (Conversation(Role.USER, "北京 lone ?"), FULL_MESSAGE)
    assert (stored.heading.title, stored.heading.updated, stored.version) == ("Ein Titel", time_of(time), 3)
    for query in ("titel", "北京", "lines", "el"):
        assert [heading.id for heading in store.find("me", query)[0]] == ["a"], query
    store.close()


def time_of(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)


def test_processes_that_open_a_new_database_at_once_all_succeed(place: Place) -> None:
    together = processes().Barrier(4)
    run_in_processes(open_and_create, [(place, f"{number}", together) for number in range(4)])
    store = place.open()
    assert store.find("me")[1] == 4
    store.close()


def open_and_create(place: Place, name: str, together: Barrier) -> None:
    together.wait()
    store = place.open()
    store.create("me", conversation(name, "hello"))
    store.close()


# What cannot be used is told, and left as it is


def test_a_database_of_a_newer_schema_is_left_to_the_newer_app(place: Place) -> None:
    store = place.open()
    with store._engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    failure = refusal(place)
    assert "newer version of this app" in str(failure)
    assert "Update the app" in str(failure)


def test_a_database_of_a_newer_schema_is_not_changed(tmp_path: Path) -> None:
    file = filled(tmp_path)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with unchanged(file):
        refusal(Place(tmp_path))


def test_another_programs_database_is_not_touched(place: Place) -> None:
    engine = engine_of(place)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE messages (sender TEXT)"))
    assert "belongs to another program" in str(refusal(place))
    assert "Name another place with DATA_PATH or DATABASE_URL" in str(refusal(place))
    assert inspect(engine).get_table_names() == ["messages"]
    engine.dispose()


def test_another_programs_file_is_not_changed(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE messages (sender TEXT)")
    with unchanged(file):
        assert str(file) in str(refusal(Place(tmp_path)))


def no_database(_: bytes) -> bytes:
    return random.Random(1).randbytes(20_000)


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def overwritten(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + random.Random(2).randbytes(10_000) + data[middle + 10_000 :]


@pytest.mark.parametrize("damage", [no_database, truncated, overwritten])
def test_a_damaged_file_is_told_and_not_changed(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    file = filled(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    with unchanged(file):
        assert "is damaged" in str(refusal(Place(tmp_path)))
        assert "Move it away, or put a backup in its place" in str(refusal(Place(tmp_path)))


def test_a_file_that_is_damaged_while_it_is_open_is_told_and_not_changed(tmp_path: Path) -> None:
    file = filled(tmp_path)
    store = Place(tmp_path).open()
    store._engine.dispose()  # of connections that have read it
    file.write_bytes(overwritten(file.read_bytes()))
    with unchanged(file), pytest.raises(StoreError, match="is damaged"):
        load_all(store)
    store.close()


def load_all(store: Store) -> None:
    for heading in store.find("me", limit=50)[0]:
        store.load("me", heading.id)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
        assert "Set DATA_PATH to a folder that can be written" in str(refusal(Place(folder)))
    assert (tmp_path / "file").read_text() == "kept"


def nothing(folder: Path) -> None:
    (folder / FILE_NAME).unlink()
    folder.chmod(0o555)


def read_only_folder(folder: Path) -> None:
    folder.chmod(0o555)


def read_only_file(folder: Path) -> None:
    (folder / FILE_NAME).chmod(0o444)


@pytest.mark.parametrize("protect", [nothing, read_only_folder, read_only_file])
def test_what_cannot_be_written_is_told_and_not_changed(
    protect: Callable[[Path], None], folder_of_nobody: Path
) -> None:
    file = filled(folder_of_nobody)
    os.chown(file, *nobody())
    protect(folder_of_nobody)
    with unchanged(file):
        sentences = processes().SimpleQueue()
        run_in_processes(refuse_to_nobody, [(folder_of_nobody, sentences)])
        sentence = sentences.get()
    assert f"{file} cannot be written" in sentence
    assert "Make its folder writable, or name another one with DATA_PATH" in sentence


def refuse_to_nobody(folder: Path, sentences: SimpleQueue[str]) -> None:
    """Put there how using this fails for somebody who is not root, whom no permission stops."""
    with TemporaryDirectory() as elsewhere:
        open_database(Path(elsewhere)).dispose()  # imports what nobody may not read
    if os.geteuid() == 0:
        user, group = nobody()
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
    with pytest.raises(StoreError) as failure:
        Place(folder).open().create("me", conversation("new", "hello"))
    sentences.put(str(failure.value))


def nobody() -> tuple[int, int]:
    """The user and group that own the files of these tests, and that open them."""
    if os.geteuid() != 0:
        return os.getuid(), os.getgid()
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


@pytest.fixture
def folder_of_nobody() -> Iterator[Path]:
    """A folder that nobody owns, and can reach."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        os.chown(folder, *nobody())
        yield folder
        folder.chmod(0o755)


def test_a_full_disk_is_told_and_nothing_is_lost_or_changed(tmp_path: Path) -> None:
    file = filled(tmp_path)
    store = Place(tmp_path).open()
    event.listen(store._engine, "connect", forbid_to_grow)
    store._engine.dispose()  # of the connections that may still grow
    before = store.load("me", "7")
    long = conversation("long", "word " * 100_000)
    with unchanged(file), pytest.raises(StoreError, match="the disk is full"):
        store.create("me", long)
    assert (store.load("me", "7"), store.load("me", "long"), store.find("me")[1]) == (before, None, 50)
    event.remove(store._engine, "connect", forbid_to_grow)
    store._engine.dispose()
    assert store.create("me", long) == 1
    store.close()


def forbid_to_grow(connection: sqlite3.Connection, _: object) -> None:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")


# DATABASE_URL


@pytest.mark.parametrize(
    "url",
    [
        "secret",
        "mysql://me:secret@host/database",
        "postgresql://me:secret@host:port/database",
        "postgresql://me:secret@[::1/database",
    ],
)
def test_a_url_that_is_none_is_told_without_its_password(url: str, tmp_path: Path) -> None:
    failure = refusal(Place(tmp_path, url))
    assert "DATABASE_URL must look like postgresql://user:password@host/database" in str(failure)
    assert "secret" not in f"{failure} {failure.values} {failure.__cause__} {failure.__context__}"


@pytest.mark.parametrize(
    ("password", "options"),
    [("secret", ""), ("sec/secret", ""), ("x", "?password=secret"), ("x", "?sslpassword=secret&unknown=1")],
)
def test_a_server_that_cannot_be_reached_is_named_without_its_password(
    password: str, options: str, tmp_path: Path
) -> None:
    failure = refusal(Place(tmp_path, f"postgresql://me:{password}@127.0.0.1:1/database{options}"))
    assert str(failure).startswith("postgresql://me:***@127.0.0.1:1/database")
    assert "cannot be used (" in str(failure)
    assert "secret" not in f"{failure} {failure.values}"


def test_a_wrong_password_is_told_without_it(postgresql: Path, tmp_path: Path) -> None:
    failure = refusal(Place(tmp_path, f"postgresql://nobody:secret@/postgres?host={postgresql}"))
    assert 'role "nobody" does not exist' in str(failure)
    assert "secret" not in f"{failure} {failure.values}"
