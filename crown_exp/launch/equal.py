"""What a command asks the registry while it makes or looks for a run: one look-up by Python's own sqlite3.

The registry's way to ask costs the import of SQLAlchemy, which a plain command has no need of.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from crown_exp.storage.database.base import path_of

if TYPE_CHECKING:
    from sqlite3 import Connection

Answer = TypeVar("Answer")

BUSY_SECONDS = 0.05
"""How long a lock is waited for: a hint is worth no more."""

_NEWEST = """
    SELECT id, name, result_attempt, pruned, result FROM runs
    WHERE signature = ? AND id != ? AND (result_attempt IS NOT NULL OR ended IS NULL)
    ORDER BY result_attempt IS NULL, created DESC, id DESC LIMIT 1
"""


_STORES = "SELECT DISTINCT store FROM runs WHERE id LIKE ? OR id LIKE ? LIMIT 2"


@dataclass(frozen=True, slots=True)
class EqualRun:
    """A run with the same signature. state: `completed`, `pruned`, or `not ended` as far as is known."""

    id: str
    name: str
    state: str
    result: Any = None

    def __str__(self) -> str:
        """`r261122-k7f3q2 (completed, accuracy 0.98) has the same signature: crown-exp show k7f3q2`."""
        numbers = self.result.items() if isinstance(self.result, dict) else ()
        values = [f"{name} {value:.4g}" for name, value in numbers if isinstance(value, float)]
        said = ", ".join([self.state, *values[:2]])
        tail = self.id.partition("-")[2] or self.id
        return f"{self.id} ({said}) has the same signature: crown-exp show {tail}"


def equal_run(url: str, signature: str, *, but: str = "") -> EqualRun | None:
    """The newest completed run with this signature, else the newest that has not ended; None if none is known.

    url: of the registry. but: a run that does not count. It is a hint, so whatever keeps the registry from
    being read (there is none yet, it is locked, damaged or of another version) is no error.
    """
    return asked(url, lambda connection: _newest(connection, signature, but))


def store_of(url: str, prefix: str) -> str | None:
    """The URL of the store whose run has this id or beginning of one; None if none is known, or several are.

    As much of a hint as `equal_run`.
    """

    def ask(connection: Connection) -> str | None:
        pattern = prefix.strip().lower().replace("%", "").replace("_", "")
        rows = connection.execute(_STORES, (f"{pattern}%", f"%-{pattern}%")).fetchall()
        return str(rows[0][0]) if pattern and len(rows) == 1 else None

    return asked(url, ask)


def asked(url: str, ask: Callable[[Connection], Answer | None]) -> Answer | None:
    """What the registry answers; None if it cannot: it is a hint."""
    import sqlite3
    from urllib.parse import quote

    path = path_of(url)
    if not path.is_file():
        return None
    try:
        found = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=BUSY_SECONDS
        )
        with closing(found) as connection:
            return ask(connection)
    except (sqlite3.Error, ValueError):
        return None


def _newest(connection: Connection, signature: str, but: str) -> EqualRun | None:
    row = connection.execute(_NEWEST, (signature, but)).fetchone()
    if row is None:
        return None
    run_id, name, attempt, pruned, result = row
    if attempt is None:
        return EqualRun(run_id, name, "not ended")
    state = "pruned" if pruned else "completed"
    # SQLite keeps the text of a number as that number
    return EqualRun(run_id, name, state, json.loads(result) if isinstance(result, str) else result)
