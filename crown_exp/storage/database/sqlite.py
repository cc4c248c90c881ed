"""All that is SQLite's own: pragmas, who may write, what its errors mean, one file taking another's place."""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import IO, Any

from anyio import to_thread
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from crown_exp.storage.database.base import Damaged, DatabaseError
from crown_exp.storage.database.mounts import is_shared

BUSY_SECONDS = 10.0
_BESIDE = ("-wal", "-shm", "-journal")
_ELSEWHERE = "or set CROWN_HOME or CROWN_DATABASE__URL to another place"
_INDEX = "it is only an index: `crown-exp reindex` makes it anew from the runs"
_REASONS = {
    "SQLITE_FULL": f"the disk is full; free some space there {_ELSEWHERE}",
    "SQLITE_READONLY": f"it is read-only; change its permissions {_ELSEWHERE}",
    "SQLITE_CANTOPEN": f"it cannot be opened; change the permissions of its folder {_ELSEWHERE}",
    "SQLITE_PERM": f"it may not be opened; change its permissions {_ELSEWHERE}",
    "SQLITE_BUSY": "another process has been writing it for too long; try again",
    "SQLITE_IOERR": f"the disk fails or is full; check it {_ELSEWHERE}",
    "SQLITE_NOTADB": f"it is no database; {_INDEX}",
    "SQLITE_CORRUPT": f"it is damaged; {_INDEX}",
}
_DAMAGED = ("SQLITE_NOTADB", "SQLITE_CORRUPT")


def new_reader(path: Path, busy_seconds: float) -> AsyncEngine:
    """An engine for transactions that read."""
    engine = create_async_engine(
        _url("sqlite+aiosqlite", path), connect_args=_arguments(busy_seconds)
    )
    _set_up(engine.sync_engine, "BEGIN")
    return engine


def new_writer(path: Path, busy_seconds: float, durable: bool) -> Engine:
    """An engine for transactions that write: they say so as they begin.

    One that reads first and then writes would lose to any that wrote in between, at once and whatever it is
    ready to wait (SQLITE_BUSY_SNAPSHOT).
    """
    engine = create_engine(
        _url("sqlite+pysqlite", path),
        connect_args=_arguments(busy_seconds),
        pool_size=1,
        max_overflow=0,
    )
    _set_up(engine, "BEGIN IMMEDIATE", f"PRAGMA synchronous={'NORMAL' if durable else 'OFF'}")
    return engine


def _url(driver: str, path: Path) -> URL:
    return URL.create(driver, database=str(path))


def _arguments(busy_seconds: float) -> dict[str, Any]:
    """What Python's driver is told: it is not to begin transactions itself, which it does too late."""
    return {"timeout": busy_seconds, "isolation_level": None}


def _set_up(engine: Engine, begin: str, *pragmas: str) -> None:
    def connected(connection: Any, record: object) -> None:
        cursor = connection.cursor()
        for pragma in ("PRAGMA temp_store=MEMORY", "PRAGMA cache_size=-65536", *pragmas):  # KiB
            cursor.execute(pragma)
        cursor.close()

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))


def exists(path: Path) -> bool:
    """Whether there is a file. Raises DatabaseError if that may not be looked at."""
    with on_disk("open", path):
        return path.exists()


def make_file(path: Path) -> None:
    """The file and its folder, with a write-ahead log, in which readers and a writer are in nobody's way.

    That needs memory that all its processes share; a file system of several machines has none, so there
    the file is locked as a whole. Call it under `locked`: switching takes the file for itself.
    """
    with on_disk("open", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            connection.execute(f"PRAGMA journal_mode={_journal(path)}")


def _journal(path: Path) -> str:
    return "DELETE" if is_shared(path) else "WAL"


@asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Alone, of all processes of this machine, with the file as a whole. Waits for its turn."""
    lock = await to_thread.run_sync(_take_lock, path)
    try:
        yield
    finally:
        lock.close()


def _take_lock(path: Path) -> IO[bytes]:
    with on_disk("open", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock").open("ab")
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the process ends, however it ends
        return lock


def make_way(path: Path) -> Path | None:
    """Move away what is at `path` and is no sound database; returns where to. Call it under `locked`."""
    with on_disk("write", path):
        return None if is_database(path) else move_away(path)


def replace(path: Path, new: Path) -> None:
    """The content of `new` takes the place of that of `path`; `new` is gone. Call it under `locked`.

    Whoever has `path` open sees the old content and, from its next transaction on, the new: it is copied in
    one transaction. A file put in its place would leave them writing to one that has no name any more, and
    find a write-ahead log that belongs to the other.
    """
    with on_disk("write", path):
        _copy(new, path)
        remove(new)


def content(connection: Connection) -> int:
    """Which content the file has: 0 for the first one, a number of its own for each that replaced it."""
    found: int = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    return found


def _copy(new: Path, path: Path) -> None:
    with closing(sqlite3.connect(new)) as source:
        source.execute(f"PRAGMA user_version={1 + secrets.randbelow(2**31 - 1)}")
        source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as target:
            target.execute(f"PRAGMA journal_mode={_journal(path)}")
            source.backup(target)


def is_database(path: Path) -> bool:
    """Whether the file is a sound database, or there is none yet."""
    if not path.exists():
        return True
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.DatabaseError as error:
        if _name(error).startswith(_DAMAGED):
            return False
        raise


def move_away(path: Path) -> Path:
    """Give the file, and what lies beside it, another name; returns that."""
    number, taken = 1, path.with_name(f"{path.name}.damaged")
    while taken.exists():
        number += 1
        taken = path.with_name(f"{path.name}.damaged-{number}")
    for suffix in ("", *_BESIDE):
        beside = path.with_name(f"{path.name}{suffix}")
        if beside.exists():
            beside.rename(taken.with_name(f"{taken.name}{suffix}"))
    return taken


def remove(path: Path) -> None:
    """Delete a database that nobody has open."""
    for suffix in ("", *_BESIDE):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)


@contextmanager
def explained(doing: str, path: Path) -> Iterator[None]:
    """Every error of the driver as a DatabaseError of one line."""
    try:
        yield
    except DBAPIError as error:
        raise _explain(doing, path, error.orig or error) from error
    except sqlite3.Error as error:
        raise _explain(doing, path, error) from error


@contextmanager
def on_disk(doing: str, path: Path) -> Iterator[None]:
    """As `explained`, and every OSError too."""
    try:
        with explained(doing, path):
            yield
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise DatabaseError(
            f"cannot {doing} the registry {path}: {reason}; change that {_ELSEWHERE}"
        ) from error


def _explain(doing: str, path: Path, error: BaseException) -> DatabaseError:
    name = _name(error)
    known = next((code for code in _REASONS if name.startswith(code)), None)
    kind = Damaged if name.startswith(_DAMAGED) else DatabaseError
    return kind(f"cannot {doing} the registry {path}: {_REASONS[known] if known else error}")


def _name(error: BaseException) -> str:
    """`SQLITE_BUSY_SNAPSHOT`, say; empty for what is no error of SQLite's own."""
    return getattr(error, "sqlite_errorname", None) or ""
