from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.unit.cli.record import World, foreign, newer, world
from tests.unit.registry.folders import complete_run, make_run


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[World]:
    with world(tmp_path, monkeypatch, capsys) as made:
        made.call(complete_run, made.blobs)
        yield made


def garbage(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"no database" * 1000)


def test_the_index_is_made_anew(here: World) -> None:
    lines = here.out("reindex")
    assert lines == ["indexed 1 run", f"store  {here.blobs.url}", "next: crown-exp runs"]
    assert here.json("reindex") == {"runs": 1, "problems": [], "moved": None}
    assert here.json("tag", "k7f") == [{"id": "r261122-k7f3q2", "tags": []}]


def test_what_cannot_be_read_is_told_and_the_rest_is_there(here: World) -> None:
    broken = here.call(make_run, here.blobs, "r261122-bbbbbb")
    (here.runs / broken.id / "run.json").write_text("{")
    code, out, err = here.type("reindex")
    assert (code, err.count("\n")) == (0, 1)
    assert "r261122-bbbbbb" in err and "damaged" in err
    assert out.splitlines()[0].endswith(", 1 problem")
    assert len(here.json("reindex")["problems"]) == 1


def test_a_file_that_is_no_database_is_moved_away(here: World) -> None:
    garbage(here.database)
    lines = here.out("reindex")
    assert lines[0] == "what was there is no database; it was moved to"
    assert lines[1] == "home/registry.db.damaged"
    assert (here.root / "home/registry.db.damaged").read_bytes().startswith(b"no database")
    assert here.json("tag", "k7f")


def test_a_store_without_runs(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROWN_STORAGE__ROOT", str(here.root / "empty"))
    assert here.out("reindex")[:2] == ["indexed 0 runs", f"store  {here.root.as_uri()}/empty"]


WORDS = [
    ["tag", "k7f", "+paper"],
    ["note", "k7f", "text"],
    ["delete", "k7f", "--yes"],
    ["prune", "state:completed", "--yes"],
    ["runs"],
]


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word[0])
@pytest.mark.parametrize(
    ("spoil", "said", "remedy"),
    [
        (garbage, "it is no database", True),
        (newer, "is of a newer crown_exp", True),
        (foreign, "is a database, but no registry of crown_exp", False),
    ],
)
def test_a_registry_of_no_use_is_one_line_and_nothing_is_changed(
    here: World, word: list[str], spoil: object, said: str, remedy: bool
) -> None:
    here.out("reindex")
    assert callable(spoil)
    spoil(here.database)
    before = sorted(here.runs.rglob("*"))
    line = here.refused(*word, code=80)
    assert said in line
    assert ("`crown-exp reindex`" in line) is remedy
    assert sorted(here.runs.rglob("*")) == before
    if remedy:
        here.out("reindex")
        assert here.json("tag", "k7f") == [{"id": "r261122-k7f3q2", "tags": []}]
    else:
        assert said in here.refused("reindex", code=80)
        with closing(sqlite3.connect(here.database)) as database:
            assert database.execute("SELECT count(*) FROM theirs").fetchone() == (0,)


def test_logs_need_no_registry(here: World) -> None:
    garbage(here.database)
    assert here.out("logs", "k7f")[-1] == "next: crown-exp show r261122-k7f3q2"


@pytest.mark.parametrize("word", [*WORDS[:1], ["reindex"]], ids=lambda word: word[0])
def test_a_database_of_another_kind_is_one_line(
    here: World, monkeypatch: pytest.MonkeyPatch, word: list[str]
) -> None:
    monkeypatch.setenv("CROWN_DATABASE__URL", "mysql://me:hunter2hunter2@host/db")
    line = here.refused(*word)
    assert "CROWN_DATABASE__URL: no database speaks mysql" in line
    assert "hunter2" not in line


@pytest.mark.parametrize("word", [*WORDS[:1], ["reindex"]], ids=lambda word: word[0])
def test_a_folder_that_cannot_be_made_is_one_line(
    here: World, monkeypatch: pytest.MonkeyPatch, word: list[str]
) -> None:
    (here.root / "file").write_text("")
    url = f"sqlite+aiosqlite:///{here.root}/file/registry.db"
    monkeypatch.setenv("CROWN_DATABASE__URL", url)
    assert "CROWN_DATABASE__URL to another place" in here.refused(*word, code=80)
