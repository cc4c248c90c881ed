"""A registry that is open: its tables are there, and as this version of the code knows them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from crown_exp.registry.base import REINDEX
from crown_exp.registry.models import REVISION
from crown_exp.registry.registry import Registry
from crown_exp.storage.database.base import Damaged, DatabaseError
from crown_exp.storage.database.engine import Database, open_database
from crown_exp.storage.database.sqlite import BUSY_SECONDS, exists, locked, make_file

if TYPE_CHECKING:
    from alembic.config import Config

VERSION_TABLE = "crown_registry_version"
"""Of our own name: a file of another program that uses alembic is not taken for ours."""


class NotOurs(DatabaseError):
    """The database is one of another program."""


class NewerRegistry(DatabaseError):
    """The registry is of a newer version than this code."""


@asynccontextmanager
async def open_registry(
    url: str, *, busy_seconds: float = BUSY_SECONDS, durable: bool = True
) -> AsyncIterator[Registry]:
    """The registry at `url`, made if there is none, migrated if it is of an older version.

    busy_seconds: how long a write waits for those of other processes. durable: False for a registry that is
    of no use half-written (`reindex` makes such a one).
    Raises SettingsError for a URL of another kind; DatabaseError if it cannot be opened, in particular
    Damaged if it is no database, NotOurs if it is no registry, NewerRegistry if it is of a newer version.
    """
    async with open_database(url, busy_seconds=busy_seconds, durable=durable) as database:
        if not exists(database.path) or await _revision(database) != REVISION:
            await _migrate(database)
        yield Registry(database)


async def check_replaceable(url: str) -> None:
    """Raises NotOurs if the database at `url` is one of another program, which may not be replaced."""
    async with open_database(url) as database:
        try:
            if exists(database.path):
                await _revision(database)
        except (Damaged, NewerRegistry):
            return


async def _migrate(database: Database) -> None:
    """Bring the tables up to date, alone: who waits for that finds them so."""
    async with locked(database.path):
        make_file(database.path)
        if await _revision(database) == REVISION:
            return
        with _quiet("alembic"):  # it tells at length what it does, to whom logging is set up for
            from alembic import command

            await database.write(lambda made: command.upgrade(alembic_config(made), "head"))


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """A logger says nothing below a warning."""
    found = logging.getLogger(logger)
    before = found.level
    found.setLevel(logging.WARNING)
    try:
        yield
    finally:
        found.setLevel(before)


async def _revision(database: Database) -> str | None:
    """The revision of the tables; None if there are none. Raises NotOurs if they are not of this program."""
    async with database.read() as connection:
        tables = set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))
        if not tables:
            return None
        if VERSION_TABLE not in tables:
            raise NotOurs(
                f"{database.path} is a database, but no registry of crown_exp; set CROWN_DATABASE__URL "
                "to another file, or move that one away"
            )
        found: str | None = await connection.scalar(
            text(f"SELECT version_num FROM {VERSION_TABLE}")
        )
    if found is not None and found > REVISION:
        raise NewerRegistry(
            f"the registry {database.path} is of a newer crown_exp (its tables are at {found}, this "
            f"one knows {REVISION}); upgrade crown_exp, or else {REINDEX}"
        )
    return found


def alembic_config(connection: Connection) -> Config:
    """What alembic needs to know, with the connection that it is to use."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "crown_exp.registry:migrations")
    config.attributes["connection"] = connection
    return config
