"""A recorded run looked up in a store, what of its code changed, which steps it saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crown_exp.compute.difference import Changed
from crown_exp.config.project import find_project
from crown_exp.errors import ConfigError
from crown_exp.folder import RunPaths, RunRecord
from crown_exp.launch.codechange import stat
from crown_exp.launch.equal import store_of
from crown_exp.launch.forking import newest_step, saved_steps, step_of
from crown_exp.launch.recorded import conf_of, found, look_up, newest_run
from crown_exp.launch.resuming import resumed
from crown_exp.launch.session import Session, open_session
from crown_exp.runner.process import importable
from crown_exp.storage.runs import write_run
from tests.launches import Told, order, project, session_with

DAY = datetime(2026, 11, 22, 12, tzinfo=UTC)
RECORD = RunRecord(
    id="", name="x", experiment="x", user="me", created=DAY, task="m.train", signature="v1:1",
    overrides=[], tags=[], seed=0, compute="local", sweep=None, lineage=None, code=None, bound=[],
)  # fmt: skip


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.chdir(tmp_path)
    with open_session(None) as opened:
        yield opened


def make(session: Session, run_id: str, created: datetime = DAY, signature: str = "v1:1") -> None:
    record = replace(RECORD, id=run_id, created=created, signature=signature)
    session.portal.call(write_run, session.blobs, record, b"task: {}\n")


def newest(session: Session, signature: str = "v1:1") -> str:
    """The id of the newest run with a signature; "" if none has it."""
    record = session.portal.call(
        newest_run, session.blobs, lambda record: record.signature == signature
    )
    return record.id if record else ""


# --- which run ------------------------------------------------------------------------------------------


def test_the_newest_that_fits_of_the_last_day_that_has_one(session: Session) -> None:
    assert newest(session) == ""
    make(session, "r261122-aaaaaa", DAY + timedelta(hours=3))
    make(session, "r261122-bbbbbb", DAY + timedelta(hours=9))
    make(session, "r261122-cccccc", DAY)
    assert newest(session) == "r261122-bbbbbb"
    make(session, "r261123-aaaaaa", DAY + timedelta(days=1), signature="v1:2")
    assert newest(session) == "r261122-bbbbbb"
    assert newest(session, "v1:2") == "r261123-aaaaaa"
    assert newest(session, "v1:3") == ""
    assert found(session, "latest") == "r261123-aaaaaa"


def test_what_cannot_be_read_is_not_the_newest(session: Session) -> None:
    make(session, "r261122-aaaaaa")
    for run_id, data in (("r261123-bad", b"{"), ("r261123-new", b'{"format": 99}')):
        session.portal.call(session.blobs.put, RunPaths(run_id).record, data)
    session.portal.call(session.blobs.put, RunPaths("r261123-part").config, b"")
    assert newest(session) == "r261122-aaaaaa"


def test_a_config_of_an_older_version_has_today_s_defaults(session: Session) -> None:
    make(session, "r261122-aaaaaa")
    config = look_up(session, "aaa").config
    assert config["checkpoint"]["every"] == "auto"
    assert config["device"]["workers"] == 0


def test_the_store_of_a_run_is_asked_of_a_registry_that_may_not_be_there(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/none.db"
    assert store_of(url, "k7f") is None
    (tmp_path / "none.db").write_bytes(b"not a database, not at all, and long enough to tell")
    assert store_of(url, "k7f") is None


def test_a_run_on_slurm_that_was_recorded_with_a_setup_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    project(tmp_path)
    slurm = Told(name="slurm")
    where = {"name": "slurm", "executor": "slurm", "shared": True, "setup": ["true"]}
    with session_with({"slurm": slurm}) as opened, importable(tmp_path):
        run = opened.make(order(compute=where)).id
        with conf_of(find_project(tmp_path)) as loader:
            with pytest.raises(ConfigError, match=r"type compute\.setup=\[\]"):
                resumed(opened, loader, run, [])
            found = resumed(opened, loader, run, ["compute.setup=[]"])
    assert found.is_elsewhere
    assert found.changes == {"compute.setup": []}


def test_a_secret_that_is_typed_to_go_on_with_is_refused_and_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    project(tmp_path, "def train(run, note=''):\n    return 1.5\n")
    secret = "ghp_" + "a1B2c3D4" * 5
    with session_with({}) as opened, importable(tmp_path):
        run = opened.make(order(compute={"name": "local", "executor": "local"})).id
        with conf_of(find_project(tmp_path)) as loader, pytest.raises(ConfigError) as caught:
            resumed(opened, loader, run, [f"task.note={secret}"])
    assert str(caught.value).startswith("task.note: looks like a secret")
    assert secret not in str(caught.value)


# --- which step -----------------------------------------------------------------------------------------


def save(session: Session, *names: str) -> None:
    for name in names:
        path = f"{RunPaths('r261122-aaaaaa').checkpoints}{name}"
        session.portal.call(session.blobs.put, path, b"")


def test_the_steps_that_were_saved(session: Session) -> None:
    run = "r261122-aaaaaa"
    assert (saved_steps(session, run), newest_step(session, run)) == ([], None)
    save(session, "000001-000000000020.json", "000001-000000000040.json")
    assert (saved_steps(session, run), newest_step(session, run)) == ([20, 40], 40)
    save(session, "000002-000000000030.json", "000002-000000000020.json", "nothing.json")
    assert (saved_steps(session, run), newest_step(session, run)) == ([40, 20, 30], 30)
    save(session, "000002-000000000030.damaged")
    assert (saved_steps(session, run), newest_step(session, run)) == ([40, 20], 20)


@pytest.mark.parametrize(("text", "step"), [("0", 0), ("20", 20), ("007", 7), ("latest", None)])
def test_a_step(text: str, step: int | None) -> None:
    assert step_of("k7f@", text) == step


@pytest.mark.parametrize("text", ["", "-1", "1.5", "1e3", "²", "٣", "best", "9" * 13, "1@2"])
def test_no_step(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^k7f@: expected RUN@STEP or RUN@latest, got "):
        step_of("k7f@", text)


# --- what of the code -----------------------------------------------------------------------------------


def test_a_few_files_are_named() -> None:
    files = [Changed("a.py", 3, 1), Changed("b.bin"), *(Changed(f"{n}.py", n, 0) for n in range(4))]
    assert stat(files[:2]) == "a.py +3 -1, b.bin"
    assert stat(files[:5]) == "a.py +3 -1, b.bin, 0.py +0 -0, 1.py +1 -0 and 1 more file"
    assert stat(files) == "a.py +3 -1, b.bin, 0.py +0 -0, 1.py +1 -0 and 2 more files"
