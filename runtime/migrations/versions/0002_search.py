"""Full-text search over titles and messages, in any language, and what is there already indexed.

A text's row id is its conversation's key and its place in it; see `runtime.search`.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

PLACES = 2**20  # in a conversation: the title's, then the messages'


def upgrade() -> None:
    connection = op.get_bind()
    key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "search",
        sa.Column("rowid", key, primary_key=True, autoincrement=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    if connection.dialect.name == "sqlite":
        _create_sqlite_index()
    else:
        _create_postgresql_index(connection)
    add = sa.text("INSERT INTO search (rowid, text) VALUES (:rowid, :text)")
    for key, title in connection.execute(sa.text("SELECT key, title FROM conversations")).all():
        connection.execute(add, {"rowid": key * PLACES, "text": _searchable(title)})
    messages = sa.text("SELECT conversation_key, number, record FROM messages")
    for key, number, record in connection.execute(messages):
        text = json.loads(record)["message"]["content"]
        connection.execute(add, {"rowid": key * PLACES + 1 + number, "text": _searchable(text)})


def _searchable(text: str) -> str:
    return text.replace("\0", " ").encode(errors="replace").decode() + "  "


def _create_sqlite_index() -> None:
    """An FTS5 index of the table's texts, kept by triggers (https://sqlite.org/fts5.html, 4.4.3)."""
    op.execute(
        "CREATE VIRTUAL TABLE search_index USING "
        "fts5(text, content='search', content_rowid='rowid', tokenize='trigram')"
    )
    op.execute("CREATE VIRTUAL TABLE search_terms USING fts5vocab(search_index, row)")
    add = "INSERT INTO search_index (rowid, text) VALUES (new.rowid, new.text);"
    remove = "INSERT INTO search_index (search_index, rowid, text) VALUES ('delete', old.rowid, old.text);"
    op.execute(f"CREATE TRIGGER search_insert AFTER INSERT ON search BEGIN {add} END")
    op.execute(f"CREATE TRIGGER search_delete AFTER DELETE ON search BEGIN {remove} END")
    op.execute(f"CREATE TRIGGER search_update AFTER UPDATE ON search BEGIN {remove} {add} END")


def _create_postgresql_index(connection: sa.Connection) -> None:
    try:
        with connection.begin_nested():
            connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
            connection.execute(
                sa.text("CREATE INDEX search_trigrams ON search USING gin (text gin_trgm_ops)")
            )
    except sa.exc.DBAPIError:  # not installed, or not allowed: search works without it, more slowly
        pass
