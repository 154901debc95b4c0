"""The tables. Changes to them are migrations, in `runtime/migrations`."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)


class UTCDateTime(TypeDecorator[datetime]):
    """A point in time, exact to the microsecond; SQLite would forget that it is in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


Key = BigInteger().with_variant(Integer, "sqlite")  # only an INTEGER is SQLite's own row id

metadata = MetaData()

conversations = Table(
    "conversations",
    metadata,
    Column("key", Key, primary_key=True),
    Column("id", Text, nullable=False, unique=True),  # the one in the page's address
    Column("owner", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("head", Integer),
    Column("settings", Text, nullable=False),  # JSON
    Column("version", Integer, nullable=False),  # counts the changes
    Column("created_at", UTCDateTime, nullable=False),
    Column("updated_at", UTCDateTime, nullable=False),
    Column("deleted_at", UTCDateTime),
    Index("conversations_listed", "owner", "deleted_at", "pinned", "updated_at"),
    sqlite_autoincrement=True,
)

messages = Table(
    "messages",
    metadata,
    Column("conversation_key", Key, ForeignKey("conversations.key", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("record", Text, nullable=False),  # JSON: runtime.records.Record
)
