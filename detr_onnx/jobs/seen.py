"""The names that a job has met so far, in bounded memory: SQLite keeps their digests in a temporary file.

The file has no name and is gone when the process ends. Each run fills it from the parts, so it always agrees with them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from detr_onnx.errors import OutputError
from detr_onnx.jobs.shard import digest

CACHE_KIB = 2048  # of pages in memory; the rest is on disk, 25 bytes a name


class Seen:
    """A set of names. Use `open_seen`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def add(self, name: str) -> bool:
        """Adds a name, and returns whether it is new.

        Raises:
            OutputError: there is no room for the temporary file.
        """
        try:
            inserted = self._connection.execute("INSERT OR IGNORE INTO names VALUES (?)", (digest(name),))
        except sqlite3.Error as error:
            remedy = "free some space, or set SQLITE_TMPDIR to another directory"
            raise OutputError(
                "the temporary file of names cannot be written", found=str(error), remedy=remedy
            ) from error
        return inserted.rowcount == 1


@contextmanager
def open_seen() -> Iterator[Seen]:
    """An empty set, gone at the end of the block."""
    with closing(sqlite3.connect("", isolation_level=None)) as connection:  # "": in a file of its own, unnamed
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}", "temp_store = FILE"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("CREATE TABLE names (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        connection.execute("BEGIN")
        yield Seen(connection)
