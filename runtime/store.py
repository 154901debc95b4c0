"""Stored conversations, each its owner's: a database through SQLAlchemy.

Any thread, and any number of processes, may call a Store. Each call is one
transaction and takes the owner; another's conversation is as one that does not exist.
Every save counts up the conversation's version, so that whoever saves on top of
something that has changed meanwhile is told.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Engine, Row, delete, func, insert, select, text, update

from runtime.database import telling_failures, writing
from runtime.errors import ConflictError, StoreError
from runtime.records import Record, to_json
from runtime.schema import conversations, messages
from runtime.search import matches, put_text, remove_texts
from runtime.tree import Node, Tree, now

# How long a deleted conversation can be had back.
TIME_TO_UNDO = timedelta(hours=1)

MAX_TITLE = 200  # characters

MAX_FOUND = 1000

_columns = conversations.c


@dataclass(frozen=True)
class Heading:
    """A conversation in the list."""

    id: str
    mode: str
    title: str
    pinned: bool
    updated: datetime


@dataclass(frozen=True)
class Stored:
    """A whole conversation."""

    heading: Heading
    tree: Tree
    settings: dict[str, Any] = field(default_factory=dict)
    version: int = 0


class Store:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writing_engine = writing(engine)

    def close(self) -> None:
        self._engine.dispose()

    def find(
        self, owner: str, query: str = "", offset: int = 0, limit: int = 30
    ) -> tuple[list[Heading], int]:
        """A stretch of the list, pinned ones first and then newest first, and how many there are in all.

        With a query: those that have all its words in their title or in one of their messages,
        MAX_FOUND of them at most.
        """
        with self._reads() as connection:
            found = _of(owner)
            if query.strip():
                condition, values = matches(connection, query)
                found = [*found, text(condition).bindparams(**values)]
            ordered = (
                select(_columns.key)
                .where(*found)
                .order_by(_columns.pinned.desc(), _columns.updated_at.desc(), _columns.key.desc())
            )
            if query.strip():  # to count them is to find them
                all_keys = connection.scalars(ordered.limit(MAX_FOUND)).all()
                keys, total = all_keys[offset : offset + limit], len(all_keys)
            else:
                keys = connection.scalars(ordered.offset(offset).limit(limit)).all()
                total = connection.scalar(select(func.count()).select_from(conversations).where(*found)) or 0
            rows = connection.execute(select(conversations).where(_columns.key.in_(keys)))
            headings = {row.key: _heading(row) for row in rows}
            return [headings[key] for key in keys], total

    def load(self, owner: str, conversation_id: str) -> Stored | None:
        """The conversation; None if this owner has none with that id. Raises StoreError if it is damaged."""
        with self._reads() as connection:
            row = _row(connection, owner, conversation_id)
            if row is None:
                return None
            records = connection.scalars(
                select(messages.c.record)
                .where(messages.c.conversation_key == row.key)
                .order_by(messages.c.number)
            )
            try:
                nodes = tuple(Record.model_validate_json(record).node() for record in records)
            except ValidationError:
                raise StoreError(
                    "This conversation cannot be read: it is damaged, or was written by a newer version of "
                    "this app. Update the app, or put a backup in the database's place.",
                    "unreadable",
                ) from None
            return Stored(_heading(row), Tree(nodes, row.head), json.loads(row.settings), row.version)

    def version(self, owner: str, conversation_id: str) -> int | None:
        """How often the conversation was changed; None if this owner has none with that id."""
        with self._reads() as connection:
            row = _row(connection, owner, conversation_id)
            return row.version if row is not None else None

    def create(self, owner: str, conversation: Stored) -> int:
        """Store a new conversation; returns its version."""
        heading = conversation.heading
        with self._writes() as connection:
            created = connection.execute(
                insert(conversations).values(
                    id=heading.id,
                    owner=owner,
                    mode=heading.mode,
                    title=_line(heading.title),
                    pinned=heading.pinned,
                    head=conversation.tree.head,
                    settings=json.dumps(conversation.settings),
                    version=1,
                    created_at=now(),
                    updated_at=heading.updated,
                )
            )
            (key,) = created.inserted_primary_key or (0,)
            put_text(connection, key, 0, heading.title)
            _put_nodes(connection, key, dict(enumerate(conversation.tree.nodes)))
            return 1

    def save(
        self,
        owner: str,
        conversation_id: str,
        version: int,
        changed: Mapping[int, Node],
        head: int | None,
        settings: Mapping[str, Any],
    ) -> int:
        """Store the messages that are new or have changed; returns the new version.

        Raises ConflictError if `version` is no longer the stored one, and LookupError
        if the conversation is gone.
        """
        with self._writes() as connection:
            row = _row(connection, owner, conversation_id, deleted=True)
            if row is None:
                raise LookupError(conversation_id)
            change = (
                update(conversations)
                .where(_columns.key == row.key, _columns.version == version)
                .values(head=head, settings=json.dumps(settings), version=version + 1)
            )
            saved = connection.execute(change.values(updated_at=now()) if changed else change)
            if not saved.rowcount:
                raise ConflictError
            _put_nodes(connection, row.key, changed)
            return version + 1

    def rename(self, owner: str, conversation_id: str, title: str) -> None:
        """Give it another title; an empty one is ignored."""
        if not _line(title):
            return
        with self._writes() as connection:
            row = _row(connection, owner, conversation_id)
            if row is not None:
                connection.execute(
                    update(conversations).where(_columns.key == row.key).values(title=_line(title))
                )
                put_text(connection, row.key, 0, title)

    def pin(self, owner: str, conversation_id: str, pinned: bool) -> None:
        """Keep it at the list's top, or no longer."""
        self._update(owner, conversation_id, pinned=pinned)

    def delete(self, owner: str, conversation_id: str) -> None:
        """Take it off the list; `restore` brings it back, for TIME_TO_UNDO."""
        self._update(owner, conversation_id, deleted_at=now())
        self.purge()

    def restore(self, owner: str, conversation_id: str) -> None:
        """Undo its deletion."""
        self._update(owner, conversation_id, deleted_at=None)

    def purge(self, deleted_before: datetime | None = None) -> None:
        """Remove for good what was deleted before this time, by default TIME_TO_UNDO ago."""
        with self._writes() as connection:
            before = deleted_before or now() - TIME_TO_UNDO
            deleted = select(_columns.key).where(_columns.deleted_at < before).with_for_update()
            for key in connection.scalars(deleted).all():  # which nobody can restore meanwhile
                remove_texts(connection, key)
                connection.execute(delete(messages).where(messages.c.conversation_key == key))
                connection.execute(delete(conversations).where(_columns.key == key))

    def _update(self, owner: str, conversation_id: str, **values: Any) -> None:
        with self._writes() as connection:
            connection.execute(
                update(conversations)
                .where(_columns.owner == owner, _columns.id == conversation_id)
                .values(values)
            )

    def _reads(self) -> AbstractContextManager[Connection]:
        return self._transaction(self._engine)

    def _writes(self) -> AbstractContextManager[Connection]:
        return self._transaction(self._writing_engine)

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        with telling_failures(self._engine), engine.begin() as connection:
            yield connection


def _of(owner: str) -> list[Any]:
    return [_columns.owner == owner, _columns.deleted_at.is_(None)]


def _row(connection: Connection, owner: str, conversation_id: str, deleted: bool = False) -> Row[Any] | None:
    found = [_columns.owner == owner] if deleted else _of(owner)
    return connection.execute(
        select(conversations).where(*found, _columns.id == conversation_id)
    ).one_or_none()


def _heading(row: Row[Any]) -> Heading:
    return Heading(row.id, row.mode, row.title, row.pinned, row.updated_at)


def _put_nodes(connection: Connection, key: int, nodes: Mapping[int, Node]) -> None:
    for number, node in nodes.items():
        record = to_json(Record.of(node))
        at = (messages.c.conversation_key == key, messages.c.number == number)
        if not connection.execute(update(messages).where(*at).values(record=record)).rowcount:
            connection.execute(insert(messages).values(conversation_key=key, number=number, record=record))
        put_text(connection, key, 1 + number, node.message.content)


def _line(title: str) -> str:
    """One line that any database can hold."""
    return " ".join(title.replace("\0", " ").split()).encode(errors="replace").decode()[:MAX_TITLE]
