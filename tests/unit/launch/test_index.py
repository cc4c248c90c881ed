"""The registry beside its store, as this machine sees it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crown_exp.folder import AttemptRecord, RunPaths, encode
from crown_exp.launch import index as module
from crown_exp.launch.index import Index, look, look_at, open_index
from crown_exp.outcome import State
from crown_exp.registry import Change, change_run
from crown_exp.storage.machine import boot_id, process_started
from tests.unit.registry.folders import complete_run, make_run

ID = "r261122-aaaaaa"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROWN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CROWN_STORAGE__ROOT", str(tmp_path / "store"))
    monkeypatch.setattr(module, "PATIENCE_S", 600.0)
    with open_index() as opened:
        yield opened


def begun_by(index: Index, pid: int, started: float | None, host: str) -> None:
    """An attempt of a process that has just shown that it lives."""
    index.call(complete_run, index.blobs, "r261122-bbbbbb")
    index.call(make_run, index.blobs, ID)
    record = AttemptRecord(
        run=ID, attempt=1, started=datetime.now(UTC), host=host, pid=pid, process_started=started,
        boot_id=boot_id(), job=None, numerics={}, versions={},
    )  # fmt: skip
    index.call(index.blobs.put, RunPaths(ID).attempt(1), encode(record))
    look(index, pytest.fail)


def states(index: Index) -> set[State]:
    """The run's state, in every way to ask."""
    (first,) = (run for run in index.page().runs if run.id == ID)
    (second, _) = index.compare([ID, "r261122-bbbbbb"]).runs
    return {first.state, second.state, index.get(ID).run.state}


def test_a_run_whose_process_is_gone_is_lost_at_once(index: Index) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        started = process_started(child.pid)
        begun_by(index, child.pid, started, os.uname().nodename)
        assert states(index) == {State.RUNNING}
    finally:
        child.kill()
        child.communicate()
    assert states(index) == {State.LOST}


def test_of_a_process_elsewhere_nobody_here_knows(index: Index) -> None:
    begun_by(index, 2**22 - 1, 1.0, "elsewhere")
    assert states(index) == {State.RUNNING}


def test_what_was_noted_of_a_completed_run_elsewhere_is_seen_when_it_is_looked_at(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.call(complete_run, index.blobs, ID)
    look(index, pytest.fail)
    monkeypatch.setenv("CROWN_HOME", str(tmp_path / "another"))
    with open_index() as other:
        change = Change(add=["paper"], note="good")
        other.call(lambda: change_run(other.registry, other.blobs, ID, change, user="ada"))
    look_at(index, ID, pytest.fail)
    assert (index.get(ID).run.tags[-1], index.get(ID).run.note) == ("paper", "good")


def test_an_index_that_cannot_be_written_tells_what_it_knew(index: Index) -> None:
    index.call(complete_run, index.blobs, ID)
    look(index, pytest.fail)
    index.call(complete_run, index.blobs, "r261122-bbbbbb")
    said: list[str] = []
    with closing(sqlite3.connect(index.settings.home / "registry.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        with open_index(busy_seconds=0.05) as other:
            assert look(other, said.append) is None
            assert [run.id for run in other.page().runs] == [ID]
        db.execute("ROLLBACK")
    assert len(said) == 1
    assert "what follows was known before" in said[0]
