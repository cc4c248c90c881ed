"""The database below the registry: transactions, types, where it may lie."""

import asyncio
import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import anyio
import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, insert, select, text

from crown_exp.errors import SettingsError
from crown_exp.registry import Registry
from crown_exp.storage.database import database_url
from crown_exp.storage.database.base import path_of
from crown_exp.storage.database.columns import Json, Moment, storable
from crown_exp.storage.database.engine import Database, open_database
from crown_exp.storage.database.mounts import is_shared
from crown_exp.storage.database.sqlite import make_file
from crown_exp.storage.database.statements import put_rows

pytestmark = pytest.mark.anyio

things = Table(
    "things",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("number", Integer),
    Column("moment", Moment),
    Column("json", Json),
)


async def opened(database: Database) -> Database:
    make_file(database.path)
    await database.write(things.metadata.create_all)
    return database


def put(connection: Connection, number: int, name: int = 1) -> None:
    connection.execute(insert(things), [{"id": name, "number": number}])


async def numbers(database: Database) -> list[int]:
    async with database.read() as connection:
        return list(await connection.scalars(select(things.c.number).order_by(things.c.id)))


async def test_a_write_is_kept_as_a_whole_or_not_at_all(url: str) -> None:
    def fails(connection: Connection) -> None:
        put(connection, 2, name=2)
        raise ZeroDivisionError

    async with open_database(url) as database:
        await opened(database)
        await database.write(put, 1)
        with pytest.raises(ZeroDivisionError):
            await database.write(fails)
        assert await numbers(database) == [1]
    async with open_database(url) as database:
        assert await numbers(database) == [1]


async def test_a_reader_sees_one_state_and_is_in_no_writers_way(url: str) -> None:
    async with open_database(url) as database:
        await opened(database)
        async with database.read() as connection:
            count = select(things.c.id)
            assert (await connection.execute(count)).all() == []
            await database.write(put, 1)
            assert (await connection.execute(count)).all() == []
        assert await numbers(database) == [1]


async def test_of_two_that_read_and_then_write_none_is_turned_away(url: str) -> None:
    """With transactions that begin as readers, the second would fail at once, whatever it waits."""

    def add_one(connection: Connection) -> None:
        found = connection.scalar(select(things.c.number).where(things.c.id == 1))
        connection.execute(things.update().values(number=(found or 0) + 1))

    from anyio import create_task_group

    async with open_database(url) as one, open_database(url) as other:
        await opened(one)
        await one.write(put, 0)
        async with create_task_group() as group:
            for _ in range(20):
                group.start_soon(one.write, add_one)
                group.start_soon(other.write, add_one)
        assert await numbers(one) == [40]


async def test_moments_and_trees_come_back_as_they_were(url: str) -> None:
    there = datetime(2026, 11, 22, 1, 2, 3, 456789, tzinfo=timezone(timedelta(hours=5)))
    tree = {"a": [1, math.inf, -math.inf, {"$number": "x"}], "b": None, "n": math.nan, "$number": 1}

    def store(connection: Connection) -> None:
        connection.execute(insert(things), [{"id": 1, "moment": there, "json": tree}])

    async with open_database(url) as database:
        await opened(database)
        await database.write(store)
        async with database.read() as connection:
            row = (await connection.execute(select(things))).one()
    assert row.moment == there and row.moment.tzinfo is UTC
    assert math.isnan(row.json.pop("n"))
    tree.pop("n")
    assert row.json == tree


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}])
async def test_what_is_nothing_comes_back_as_it_was(url: str, value: object) -> None:
    def store(connection: Connection) -> None:
        connection.execute(insert(things), [{"id": 1, "json": value}])

    async with open_database(url) as database:
        await opened(database)
        await database.write(store)
        async with database.read() as connection:
            assert (await connection.scalar(select(things.c.json))) == value


@pytest.mark.parametrize(
    ("text", "stored"), [("ü 漢 🎉", "ü 漢 🎉"), ("a\0b", "a\\x00b"), ("a\udc80", "a\\udc80")]
)
def test_any_text_can_be_stored(text: str, stored: str) -> None:
    assert storable(text) == stored


async def test_rows_put_twice_stay_or_are_replaced_as_asked(url: str) -> None:
    async with open_database(url) as database:
        await opened(database)
        row = (1, 5, None, None)
        for new, how in (
            (row, {}),
            ((1, 6, None, None), {}),
            ((1, 4, None, None), {"replace": ("number",), "at_least": "number"}),
        ):
            await database.write(put_rows, things, [new], **how)
            assert await numbers(database) == [5]
        await database.write(put_rows, things, [(1, 7, None, None)], replace=("number",))
        assert await numbers(database) == [7]


async def test_a_database_of_this_machine_has_a_write_ahead_log(url: str) -> None:
    async with open_database(url) as database:
        await opened(database)
        async with database.read() as connection:
            assert await connection.scalar(text("PRAGMA journal_mode")) == "wal"


@pytest.mark.parametrize("name", ["a b", "ü", "50%", "what?", "c#d", "%20"])
def test_a_path_survives_its_url(name: str, tmp_path: Path) -> None:
    assert path_of(database_url(tmp_path / name)) == tmp_path / name


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://ada:secret@host/db", "sqlite://", "sqlite:///", "registry.db", ""]
)
def test_another_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^CROWN_DATABASE__URL: .*; known is sqlite") as caught:
        path_of(url)
    assert "secret" not in str(caught.value)


MOUNTS = r"""22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /srv/ada rw,relatime shared:1 - nfs4 server:/srv rw
31 30 0:41 / /srv/ada/local\040disk rw - xfs /dev/sdb rw
32 22 0:42 / /mnt/cloud rw - fuse.sshfs host: rw
33 22 0:43 / /mnt/fuse-ext rw - fuseblk /dev/sdc rw
nonsense
"""


@pytest.mark.parametrize(
    ("place", "shared"),
    [
        ("/var/x", False),
        ("/srv/ada/registry.db", True),
        ("/srv/adam/registry.db", False),
        ("/srv/ada/local disk/registry.db", False),
        ("/mnt/cloud/deep/below", True),
        ("/mnt/fuse-ext/x", False),
    ],
)
def test_a_place_that_other_machines_share_is_told(
    place: str, shared: bool, tmp_path: Path
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert is_shared(Path(place), mounts) is shared
    assert not is_shared(Path(place), tmp_path / "nowhere")


async def test_transactions_that_are_cancelled_leave_nothing_that_waits(registry: Registry) -> None:
    async def look() -> None:
        async with registry.database.read() as connection:
            for _ in range(2):
                await connection.execute(text("SELECT count(*) FROM runs"))

    before = asyncio.all_tasks()
    for moment in range(20):
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(look)
            await anyio.sleep(moment / 4_000)
            group.cancel_scope.cancel()
    assert asyncio.all_tasks() == before
