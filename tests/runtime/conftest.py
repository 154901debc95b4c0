"""Databases for the tests: SQLite in a folder, and PostgreSQL where Debian's package of it is installed."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
import pytest

from runtime.database import open_database
from runtime.store import Store

KINDS = ["sqlite", "postgresql"]

OFF = [f"-c {setting}=off" for setting in ("fsync", "synchronous_commit", "full_page_writes")]

_numbers = count()


@dataclass(frozen=True)
class Place:
    """Where a database is, in the words of the settings."""

    folder: Path
    url: str | None = None

    def open(self) -> Store:
        return Store(open_database(self.folder, self.url))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Path]:
    """The folder with the socket of a PostgreSQL server of its own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed: there is no /usr/lib/postgresql/*/bin/initdb")
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    if user is not None and user not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip("PostgreSQL cannot be run as root, and there is no user postgres")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's path has 107 bytes at most
    if user is not None:
        shutil.chown(folder, user)

    def run(program: str, *arguments: str) -> None:
        command = [str(found[-1].with_name(program)), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)

    try:
        run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        options = " ".join(["-c listen_addresses=", f"-k {folder}", *OFF])
        run("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", options)
        try:
            yield folder
        finally:
            run("pg_ctl", "stop", "-w", "-m", "immediate")
    finally:
        shutil.rmtree(folder)


@contextmanager
def empty_place(kind: str, request: pytest.FixtureRequest) -> Iterator[Place]:
    """An empty place for a database."""
    folder = request.getfixturevalue("tmp_path_factory").mktemp("data")
    if kind == "sqlite":
        yield Place(folder)
        return
    socket, name = request.getfixturevalue("postgresql"), f"test_{next(_numbers)}"
    with psycopg.connect(f"host={socket} user=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield Place(folder, f"postgresql://postgres@/{name}?host={socket}")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """An empty place for a database of each kind."""
    with empty_place(request.param, request) as place:
        yield place


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    """An empty store in a database of each kind."""
    store = place.open()
    yield store
    store.close()
