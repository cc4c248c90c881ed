"""The tables: made once, the same as the models, refused if they are somebody else's."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from crown_exp.registry import Registry, open_registry, reindex
from crown_exp.registry.models import OF_A_RUN, REVISION, attempts, metadata
from crown_exp.registry.opening import VERSION_TABLE, NewerRegistry, NotOurs, alembic_config
from crown_exp.storage import open_blobs
from crown_exp.storage.database import Damaged
from crown_exp.storage.database.base import path_of
from crown_exp.storage.database.statements import upsert

pytestmark = pytest.mark.anyio


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "version_table": VERSION_TABLE}
    )
    return list(compare_metadata(context, metadata))


def ddl(connection: Connection) -> list[str]:
    found = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
    return sorted(" ".join(sql.split()) for (sql,) in found)


async def test_the_revisions_make_what_the_models_say(registry: Registry) -> None:
    assert await registry.database.write(differences) == []


async def test_to_the_letter(registry: Registry, tmp_path: Path) -> None:
    """Also what alembic does not compare: primary keys, tables without row ids."""

    def anew(connection: Connection) -> list[str]:
        before = ddl(connection)
        metadata.drop_all(connection)
        metadata.create_all(connection)
        return [sql for sql in before if VERSION_TABLE not in sql]

    made = await registry.database.write(anew)
    meant = await registry.database.write(ddl)
    assert made == [sql for sql in meant if VERSION_TABLE not in sql]


async def test_the_newest_revision_is_the_one_the_code_knows(registry: Registry) -> None:
    def heads(connection: Connection) -> list[str]:
        return list(ScriptDirectory.from_config(alembic_config(connection)).get_heads())

    assert await registry.database.write(heads) == [REVISION]


async def test_down_and_up_again(registry: Registry) -> None:
    def down(connection: Connection) -> list[str]:
        command.downgrade(alembic_config(connection), "base")
        return inspect(connection).get_table_names()

    assert await registry.database.write(down) == [VERSION_TABLE]
    async with open_registry(f"sqlite:///{registry.database.path}") as again:
        assert await again.database.write(differences) == []


def test_the_tables_can_be_made_in_postgresql() -> None:
    dialect = postgresql.dialect()
    statements = [
        str(CreateTable(table).compile(dialect=dialect)) for table in metadata.tables.values()
    ]
    statements += [
        str(CreateIndex(index).compile(dialect=dialect))
        for table in metadata.tables.values()
        for index in table.indexes
    ]
    assert any("JSONB" in sql for sql in statements)
    assert any("TIMESTAMP WITH TIME ZONE" in sql for sql in statements)
    assert not any("ROWID" in sql for sql in statements)
    points = upsert("postgresql", metadata.tables["metric_points"], ("value", "attempt"), "attempt")
    sql = " ".join(str(points.compile(dialect=dialect)).split())
    assert "ON CONFLICT (run_id, key_id, step) DO UPDATE SET value = excluded.value" in sql
    assert sql.endswith("WHERE excluded.attempt >= metric_points.attempt")


def test_every_table_of_a_run_is_known_as_one() -> None:
    with_run = {table.name for table in metadata.tables.values() if "run_id" in table.c}
    assert {table.name for table in OF_A_RUN} == with_run
    assert set(metadata.tables) - with_run == {"runs", "keys"}


async def test_opening_again_changes_nothing(url: str) -> None:
    seen = []
    for _ in range(2):
        async with open_registry(url) as registry, registry.database.read() as connection:
            seen.append((await connection.exec_driver_sql("PRAGMA schema_version")).scalar())
    assert seen[0] == seen[1]


async def test_an_empty_file_becomes_a_registry(url: str) -> None:
    path_of(url).parent.mkdir(parents=True)
    path_of(url).touch()
    async with open_registry(url) as registry:
        assert (await registry.page()).runs == ()


def execute(path: Path, *statements: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


async def test_a_newer_registry_is_refused_and_left_alone(url: str) -> None:
    async with open_registry(url):
        pass
    execute(path_of(url), f"UPDATE {VERSION_TABLE} SET version_num = '0999'")
    before = path_of(url).read_bytes()
    with pytest.raises(
        NewerRegistry, match=r"at 0999, .* upgrade crown_exp, or .* reindex"
    ) as caught:
        async with open_registry(url):
            pass
    assert "\n" not in str(caught.value)
    assert path_of(url).read_bytes() == before
    await reindex(url, open_blobs("memory://nothing"))
    async with open_registry(url) as registry:
        assert (await registry.page()).runs == ()


async def test_the_database_of_another_program_is_refused_and_left_alone(url: str) -> None:
    execute(
        path_of(url),
        "CREATE TABLE alembic_version (version_num TEXT)",
        "INSERT INTO alembic_version VALUES ('451aebb31d03')",
        "CREATE TABLE experiments (id INTEGER)",
    )
    before = path_of(url).read_bytes()
    with pytest.raises(NotOurs, match="no registry of crown_exp; set CROWN_DATABASE__URL"):
        async with open_registry(url):
            pass
    with pytest.raises(NotOurs):
        await reindex(url, open_blobs("memory://nothing"))
    assert path_of(url).read_bytes() == before


async def test_what_is_no_database_is_refused_and_left_alone(url: str) -> None:
    path_of(url).parent.mkdir(parents=True)
    path_of(url).write_bytes(b"This is a letter, and no database at all. " * 100)
    with pytest.raises(Damaged, match=r"it is no database; .* `crown-exp reindex`") as caught:
        async with open_registry(url):
            pass
    assert "\n" not in str(caught.value)
    assert path_of(url).read_bytes().startswith(b"This is a letter")


async def test_a_registry_of_before_is_brought_up_to_date_with_what_it_knows(url: str) -> None:
    async with open_registry(url) as registry:
        await registry.database.write(lambda it: command.downgrade(alembic_config(it), "0001"))
    execute(path_of(url), "INSERT INTO attempts (run_id, attempt, exit_code) VALUES ('r1', 1, 75)")
    async with open_registry(url) as again, again.database.read() as connection:
        rows = await connection.execute(select(attempts))
        (row,) = rows.mappings()
    assert (row["exit_code"], row["changes"], row["saved"]) == (75, None, None)
