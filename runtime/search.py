"""Full-text search in conversations: which of them have all words of a query in one of their texts.

A text's row id is its conversation's key times PLACES, plus its place in it: 0 is
the title's, 1 + n that of message n. So a text's conversation is known without a join.

SQLite: an FTS5 index of trigrams, which find any part of any text, in languages
without spaces, too. A trigram query needs three characters, and Chinese words mostly
have two: those are looked up among the index's terms, as the beginning of one; two
spaces at each text's end make every character begin one.
PostgreSQL: ILIKE, helped by a GIN index of trigrams.
"""

from itertools import product
from typing import Any

from sqlalchemy import Connection, text

PLACES = 2**20

# A word of so many characters that begins more of the index's trigrams than this is so
# common that reading the texts is the quicker way.
MAX_TERMS = {1: 100, 2: 1000}

# The texts of a row of `conversations`.
_MINE = f"rowid >= conversations.key * {PLACES} AND rowid < (conversations.key + 1) * {PLACES}"

_LAST_CHARACTER = "\U0010ffff"


def put_text(connection: Connection, key: int, place: int, words: str) -> None:
    """Make the text in this place of a conversation findable, instead of the one that was there."""
    row = {"rowid": key * PLACES + place, "text": _storable(words) + "  "}
    changed = connection.execute(text("UPDATE search SET text = :text WHERE rowid = :rowid"), row)
    if not changed.rowcount:
        connection.execute(text("INSERT INTO search (rowid, text) VALUES (:rowid, :text)"), row)


def remove_texts(connection: Connection, key: int) -> None:
    """Forget all texts of a conversation."""
    places = {"first": key * PLACES, "end": (key + 1) * PLACES}
    connection.execute(text("DELETE FROM search WHERE rowid >= :first AND rowid < :end"), places)


def matches(connection: Connection, query: str) -> tuple[str, dict[str, Any]]:
    """Whether a conversation has all words of the query in one text: SQL for a row of it, and its values."""
    words = _storable(query).split()
    if connection.dialect.name == "sqlite":
        return _sqlite_matches(connection, words)
    return _postgresql_matches(words)


def _postgresql_matches(words: list[str]) -> tuple[str, dict[str, Any]]:
    conditions = [
        # Chinese has no upper and lower case, and LIKE is several times as fast.
        f"text {'LIKE' if word.upper() == word.lower() else 'ILIKE'} :word{i} ESCAPE '!'"
        for i, word in enumerate(words)
    ]
    values = {f"word{i}": _pattern(word) for i, word in enumerate(words)}
    if all(len(word) == 1 for word in words):  # which most conversations have in their first texts
        return f"EXISTS (SELECT 1 FROM search WHERE {' AND '.join([_MINE, *conditions])})", values
    found = f"SELECT rowid / {PLACES} FROM search WHERE {' AND '.join(conditions)}"
    return f"conversations.key IN ({found})", values


def _sqlite_matches(connection: Connection, words: list[str]) -> tuple[str, dict[str, Any]]:
    common: list[str] = []  # conditions on a text itself
    values: dict[str, Any] = {}
    expressions = []
    for i, word in enumerate(words):
        terms = [word] if len(word) >= 3 else _terms_with_prefix(connection, word)
        if len(terms) <= MAX_TERMS.get(len(word), 1):
            expressions.append("(" + " OR ".join(map(_quoted, terms)) + ")")
        else:
            patterns = {f"word{i}_{j}": _pattern(each) for j, each in enumerate(_cases(word))}
            common.append("(" + " OR ".join(f"text LIKE :{name} ESCAPE '!'" for name in patterns) + ")")
            values |= patterns
    if not expressions:
        # Nearly every conversation has such words: in its own first texts they are found soonest.
        return f"EXISTS (SELECT 1 FROM search WHERE {' AND '.join([_MINE, *common])})", values
    values["expression"] = " AND ".join(expressions)
    found = "SELECT rowid FROM search_index WHERE search_index MATCH :expression"
    if common:
        found = f"SELECT rowid FROM search WHERE rowid IN ({found}) AND {' AND '.join(common)}"
    return f"conversations.key IN (SELECT rowid / {PLACES} FROM ({found}))", values


def _terms_with_prefix(connection: Connection, word: str) -> list[str]:
    """The index's trigrams that begin with the word; at least one that no text has."""
    found = connection.execute(
        text("SELECT term FROM search_terms WHERE term >= :first AND term < :end LIMIT :limit"),
        {"first": word.lower(), "end": word.lower() + _LAST_CHARACTER, "limit": MAX_TERMS[len(word)] + 1},
    )
    return [term for (term,) in found] or [word.ljust(3, "\1")]


def _cases(word: str) -> set[str]:
    """The one or two characters of the word in upper and lower case, where LIKE does not know them alike."""
    if word.isascii():
        return {word}
    return {"".join(letters) for letters in product(*({each.lower(), each.upper()} for each in word))}


def _quoted(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'


def _pattern(word: str) -> str:
    return "%" + word.replace("!", "!!").replace("%", "!%").replace("_", "!_") + "%"


def _storable(words: str) -> str:
    """The text without what PostgreSQL, or no encoding, can hold: NUL, and lone surrogates."""
    return words.replace("\0", " ").encode(errors="replace").decode()
