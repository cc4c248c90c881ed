"""A database that is open: transactions that read, and the one that writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from anyio import CancelScope, Lock, to_thread
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from crown_exp.storage.database import sqlite
from crown_exp.storage.database.base import Replaced, path_of

P = ParamSpec("P")
T = TypeVar("T")


class Database:
    """One database, for as long as it is open, in the event loop that opened it.

    Reading is asynchronous. Writing is a plain function with a plain connection, which one thread carries
    out from beginning to end: so the lock that keeps all other writers out is held for as long as the
    database works, and not while the event loop does something else; and a statement costs no change of
    threads, of which the asynchronous driver needs four.

    path: the file it is in.
    """

    def __init__(self, path: Path, reader: AsyncEngine, writer: Engine) -> None:
        self.path, self.reader, self.writer = path, reader, writer
        self.turn = Lock()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one state of the database. Raises DatabaseError.

        Cancelled, it ends first: a driver's thread that is stopped in the middle of a statement and asked
        for another never answers (aiosqlite 0.22), and whoever waits for it would wait for ever.
        """
        with CancelScope(shield=True), sqlite.explained("read", self.path):
            async with self.reader.begin() as connection:
                yield connection

    async def write(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`work(connection, …)` as one transaction: committed when it returns, undone by an error.

        It waits for its turn before it reads anything, so that nothing it read can change under it.
        Raises DatabaseError, and what `work` raises.
        """

        def transaction() -> T:
            with sqlite.explained("write", self.path), self.writer.begin() as connection:
                return work(connection, *args, **kwargs)

        async with self.turn:
            return await to_thread.run_sync(transaction)

    async def write_in(
        self,
        content: int,
        work: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As `write`, into the content that was read (`sqlite.content`). Raises Replaced for another one."""

        def checked(connection: Connection) -> T:
            if sqlite.content(connection) != content:
                raise Replaced(f"the registry {self.path} is being made anew; try again")
            return work(connection, *args, **kwargs)

        return await self.write(checked)


@asynccontextmanager
async def open_database(
    url: str, *, busy_seconds: float = sqlite.BUSY_SECONDS, durable: bool = True
) -> AsyncIterator[Database]:
    """The database at `url`, `sqlite+aiosqlite:///path`; its folder and file are made if there are none.

    busy_seconds: how long a transaction waits for that of another process. durable: False for a file that
    is of no use half-written: then nothing waits for the disk.
    Raises SettingsError for another URL; DatabaseError, later, if it cannot be opened, read or written.
    """
    path = path_of(url)
    reader = sqlite.new_reader(path, busy_seconds)
    writer = sqlite.new_writer(path, busy_seconds, durable)
    try:
        yield Database(path, reader, writer)
    finally:
        with CancelScope(shield=True), suppress(DBAPIError):  # of what could not be opened
            await reader.dispose()
            await to_thread.run_sync(writer.dispose)
