"""Opening a database: SQLite in a folder, or PostgreSQL by its URL, brought to today's schema.

Not what is in it: that is `runtime.store`. Nothing is changed in a database that
is damaged, of another program, or of a newer version of the app.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import alembic.command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from runtime.errors import StoreError

FILE_NAME = "conversations.db"
SECONDS_TO_WAIT_FOR_A_LOCK = 10

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x43474C4D33  # any number, the same in every process


def open_database(folder: Path, url: str | None = None) -> Engine:
    """The database in the folder, or at the URL; raises StoreError, in a sentence."""
    address = _postgresql(url) if url else _sqlite(folder)
    engine = create_engine(address, **_options(address))
    if address.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    try:
        with telling_failures(engine):
            _migrate(engine)
    except StoreError:
        engine.dispose()
        raise
    return engine


def writing(engine: Engine) -> Engine:
    """The engine for transactions that write."""
    # A SQLite transaction that begins by reading could not wait for another writer.
    return engine.execution_options(sqlite_begin="IMMEDIATE")


def _sqlite(folder: Path) -> URL:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The data folder {folder} cannot be made: {error.strerror}. "
            "Set DATA_PATH to a folder that can be written.",
            "folder_not_made",
            folder=str(folder),
        ) from error
    return URL.create("sqlite", database=str(folder / FILE_NAME))


def _postgresql(url: str) -> URL:
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):  # whose texts may have the password
        address = None
    if address is None or not address.drivername.startswith("postgres"):
        raise StoreError(
            "DATABASE_URL must look like postgresql://user:password@host/database. "
            "Without it, conversations are kept in DATA_PATH.",
            "bad_database_url",
        )
    return address.set(drivername="postgresql+psycopg")


def _options(address: URL) -> dict[str, Any]:
    if address.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": SECONDS_TO_WAIT_FOR_A_LOCK, "check_same_thread": False}}
    return {"pool_pre_ping": True}


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver begins no transactions of its own
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")


def _begin_sqlite(connection: Connection) -> None:
    kind = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {kind}")


def _migrate(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            _check(connection, scripts)
            _check_pages(connection)
        _use_write_ahead_log(engine)
    with writing(engine).begin() as connection:  # SQLite: one process at a time
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        if _check(connection, scripts) != scripts.get_current_head():
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")


def _check(connection: Connection, scripts: ScriptDirectory) -> str | None:
    """The schema's revision; raises StoreError for one that is not ours."""
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None and set(inspect(connection).get_table_names()) & {"conversations", "messages"}:
        raise StoreError(
            f"{_name(connection.engine)} belongs to another program; nothing in it was changed. "
            "Name another place with DATA_PATH or DATABASE_URL.",
            "foreign_database",
            database=_name(connection.engine),
        )
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        raise StoreError(
            f"{_name(connection.engine)} was written by a newer version of this app; nothing in it was "
            "changed. Update the app, or name another place with DATA_PATH or DATABASE_URL.",
            "newer_database",
            database=_name(connection.engine),
        )
    return revision


def _check_pages(connection: Connection) -> None:
    """Raises for a damaged SQLite file, in which a change could do more harm; 2 seconds a gigabyte."""
    # Table by table, without the virtual ones: newer SQLites would tokenize all texts again for those.
    report = connection.exec_driver_sql(
        "SELECT quick_check FROM sqlite_schema AS entry, pragma_quick_check(entry.name) "
        "WHERE entry.type = 'table' AND rootpage > 0 AND quick_check <> 'ok' LIMIT 1"
    )
    if report.scalar() is not None:
        raise connection.dialect.loaded_dbapi.DatabaseError("database disk image is malformed")


def _use_write_ahead_log(engine: Engine) -> None:
    connection = engine.raw_connection()
    cursor = connection.cursor()
    try:
        while True:
            try:
                cursor.execute("PRAGMA journal_mode = WAL").fetchone()
                return
            except engine.dialect.loaded_dbapi.OperationalError as error:
                if "locked" not in str(error):
                    raise
            # Another process is at it, too. The pragma waits for no one; a transaction does.
            cursor.execute("BEGIN EXCLUSIVE")
            cursor.execute("COMMIT")
    finally:
        connection.close()


@contextmanager
def telling_failures(engine: Engine) -> Iterator[None]:
    """Turns a database's failures into StoreErrors."""
    try:
        yield
    except SQLAlchemyError as error:
        raise _told(engine, error) from error
    except engine.dialect.loaded_dbapi.Error as error:
        raise _told(engine, error) from error


def _told(engine: Engine, error: Exception) -> StoreError:
    name = _name(engine)
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    for words, key, sentence in _REASONS:
        if any(word in reason for word in words):
            return StoreError(sentence.format(database=name), key, database=name)
    sentence = f"{name} cannot be used ({reason}). Check that it runs, and DATA_PATH or DATABASE_URL."
    return StoreError(sentence, "database_fails", database=name, reason=reason)


# Of SQLite's and PostgreSQL's own messages: what each means for the user.
_REASONS = (
    (
        ("readonly", "read-only", "unable to open database file", "permission denied"),
        "read_only",
        "{database} cannot be written. Make its folder writable, or name another one with DATA_PATH.",
    ),
    (
        ("is full", "No space left", "disk I/O error"),
        "disk_full",
        "{database} cannot grow: the disk is full. Free some space; what was stored is safe.",
    ),
    (
        ("not a database", "malformed", "Could not decode"),
        "corrupt",
        "{database} is damaged; nothing in it was changed. Move it away, or put a backup in its place.",
    ),
    (
        ("database is locked",),
        "locked",
        "{database} is held by another program. Try again when that is done.",
    ),
)


def _name(engine: Engine) -> str:
    """The database, for people: a path, or a URL without its password."""
    if engine.dialect.name == "sqlite":
        return str(engine.url.database)
    address = engine.url.set(drivername="postgresql").difference_update_query(["password", "sslpassword"])
    return address.render_as_string(hide_password=True)
