from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crown_exp.errors import StoreError
from crown_exp.storage.file import FileStore
from tests.unit.cli.record import World, world
from tests.unit.registry.folders import complete_run, make_run

ROOT = Path(__file__).parents[3]
RUNS = [f"r261122-{letter * 6}" for letter in "abcde"]


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[World]:
    """Five runs, of 10 to 6 days ago, the last of them of another experiment."""
    now = datetime.now(UTC)
    with world(tmp_path, monkeypatch, capsys) as made:
        for number, run_id in enumerate(RUNS):
            created = now - timedelta(days=10 - number, hours=-1)
            kind = "digits" if number < 4 else "text"
            made.call(complete_run, made.blobs, run_id, created=created, experiment=kind)
        yield made


def left(here: World) -> list[str]:
    """The runs that are there, by folder and by index alike."""
    folders = sorted(path.name for path in here.runs.iterdir() if any(path.rglob("*.*")))
    assert sorted(run["id"] for run in here.json("runs")["runs"]) == folders
    return folders


def begin(here: World, run_id: str, created: datetime | None = None) -> None:
    """A run that goes on."""
    made = here.call(make_run, here.blobs, run_id, created=created or datetime.now(UTC))
    here.call(made.attempt)


# --- delete -------------------------------------------------------------------------------------------


def test_it_says_first_what_it_would_free_and_then_what_it_did(here: World) -> None:
    here.out("tag", "aaa", "+paper")
    size = sum(path.stat().st_size for path in (here.runs / RUNS[0]).rglob("*") if path.is_file())
    head, run, would, did, last = here.out("delete", "aaa", "--yes")
    assert head.split() == ["id", "name", "state", "age", "files", "size", "tags"]
    assert run.split() == f"{RUNS[0]} digits completed 9 d 7 {size / 1000:.1f} kB paper".split()
    assert would == f"would free: 1 run, 7 files, {size / 1000:.1f} kB"
    assert did == f"deleted 1 run, 7 files, {size / 1000:.1f} kB"
    assert last == "next: crown-exp runs"
    assert left(here) == RUNS[1:]


def test_without_anybody_to_ask_it_refuses_and_says_what_to_type(here: World) -> None:
    code, out, err = here.type("delete", "bbb", "aaa")
    assert (code, err.count("\n")) == (2, 1)
    assert "would free: 2 runs, 12 files" in out
    assert f"nothing was deleted. Type: crown-exp delete {RUNS[1]} {RUNS[0]} --yes" in err
    assert "--yes" in here.refused("delete", "bbb", "--json")
    assert left(here) == RUNS


def test_a_dry_run_deletes_nothing(here: World) -> None:
    *_, said, last = here.out("delete", "bbb", "--dry-run")
    assert said == "nothing was deleted, as --dry-run asks"
    assert last == f"next: crown-exp delete {RUNS[1]}"
    told = here.json("delete", "bbb", "--dry-run")
    assert told["deleted"] is False and told["runs"][0]["id"] == RUNS[1]
    assert left(here) == RUNS


def test_json_tells_what_was_deleted(here: World) -> None:
    told = here.json("delete", RUNS[0], "aaa", RUNS[1], "--yes")
    assert [run["id"] for run in told["runs"]] == RUNS[:2]
    assert (told["files"], told["deleted"]) == (12, True)
    assert told["bytes"] == sum(run["bytes"] for run in told["runs"])
    assert left(here) == RUNS[2:]


def test_of_several_none_is_deleted_if_one_goes_on(here: World) -> None:
    begin(here, "r261122-live00")
    line = here.refused("delete", "aaa", "live", "--yes")
    assert "r261122-live00: is running, so it is not deleted, nor is any other" in line
    waiting = here.call(make_run, here.blobs, "r261122-queue0")
    here.call(waiting.job)
    assert "r261122-queue0: is queued" in here.refused("delete", "queue", "--yes")
    assert len(left(here)) == 7


def test_what_is_left_of_a_run_goes_by_its_whole_id(here: World) -> None:
    (here.runs / RUNS[0] / "run.json").unlink()
    here.out("reindex")
    assert "no run that is indexed" in here.refused("delete", "aaa", "--yes")
    lines = here.out("delete", RUNS[0], "--yes")
    assert "what is left of a run" in lines[1]
    assert left(here) == RUNS[1:]
    assert "no run that is indexed" in here.refused("delete", RUNS[0], "--yes")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ([], "Missing argument 'RUN...'"),
        (["zzz", "--yes"], "zzz: no run that is indexed"),
        (["aaa", "r2611", "--yes"], "r2611: several runs fit"),
        (["aaa", "--force"], "No such option '--force'"),
    ],
)
def test_a_mistake_is_one_line(here: World, typed: list[str], said: str) -> None:
    assert said in here.refused("delete", *typed)
    assert left(here) == RUNS


def test_a_store_that_fails_half_way_is_told_with_what_was_done(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = FileStore.delete

    async def failing(self: FileStore, path: str) -> None:
        if RUNS[1] in path and path.endswith(".seg"):
            raise StoreError("cannot delete: input/output error")
        await delete(self, path)

    monkeypatch.setattr(FileStore, "delete", failing)
    code, _, err = here.type("delete", *RUNS[:3], "--yes")
    assert code == 80
    assert "input/output error; deleted 1 run, 6 files" in err
    assert f"{RUNS[1]} may be half deleted; 2 runs left to delete; again: crown-exp delete" in err
    monkeypatch.undo()
    monkeypatch.setenv("CROWN_HOME", str(here.root / "home"))
    monkeypatch.setenv("CROWN_STORAGE__ROOT", str(here.root / "store"))
    monkeypatch.chdir(here.root)
    here.out("delete", *RUNS[1:3], "--yes")
    assert left(here) == RUNS[3:]


INTERRUPTED = """
import os, signal, sys
from crown_exp.storage.file import FileStore
from crown_exp import __main__

delete, victim = FileStore.delete, sys.argv[2]
async def slow(self, path):
    if victim in path and path.endswith("run.json"):
        os.kill(os.getpid(), signal.SIGINT)
    await delete(self, path)
FileStore.delete = slow
sys.argv = ["crown-exp", "delete", *sys.argv[3:], "--yes"]
__main__.main()
"""


def test_ctrl_c_comes_through_between_two_runs_and_what_is_said_is_true(here: World) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "-", RUNS[1], *RUNS[:3]],
        cwd=here.root, env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 130
    said, last = done.stderr.splitlines()
    assert said.startswith("deleted 2 runs, 12 files, ")
    assert said.endswith(f"; 1 run left to delete; again: crown-exp delete {' '.join(RUNS[:3])}")
    assert last == "interrupted"
    assert left(here) == RUNS[2:]
    here.out("delete", RUNS[2], "--yes")
    assert left(here) == RUNS[3:]


@pytest.mark.parametrize(("answer", "code", "kept"), [("y", 0, RUNS[1:]), ("n", 1, RUNS)])
def test_on_a_terminal_it_asks(here: World, answer: str, code: int, kept: list[str]) -> None:
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "crown_exp", "delete", "aaa"],
        cwd=here.root, env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
        stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        os.write(master, f"{answer}\n".encode())
        out, err = child.communicate()
    os.close(master)
    os.close(slave)
    assert child.returncode == code
    assert "delete 1 run? [y/N]" in err
    assert out.splitlines()[1].startswith(RUNS[0])
    assert left(here) == kept


# --- prune --------------------------------------------------------------------------------------------


def test_without_terms_it_shows_what_takes_most_and_deletes_nothing(here: World) -> None:
    (here.runs / RUNS[2] / "files").mkdir()
    (here.runs / RUNS[2] / "files/big.bin").write_bytes(bytes(3_000_000))
    lines = here.out("prune")
    assert lines[1].split()[0] == RUNS[2] and "3.0 MB" in lines[1]
    assert lines[-2].startswith("5 runs, 3.0 MB") and lines[-2].endswith("nothing was deleted")
    assert lines[-1] == "next: crown-exp prune state:failed,stopped,lost --older 30d"
    told = here.json("prune")
    assert (told["of"], told["runs"][0]["id"]) == (5, RUNS[2])
    assert left(here) == RUNS


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (["experiment:text"], RUNS[:4]),
        (["experiment:digits", "--keep", "1"], RUNS[3:]),
        (["--older", "8d"], RUNS[2:]),
        (["age>7d", "experiment:digits"], RUNS[3:]),
        (["experiment:digits", "--older", "8d", "--keep", "1"], RUNS[1:]),
        (["--keep", "2"], RUNS[3:]),
        (["state:failed"], RUNS),
        (["accuracy>0.95"], RUNS),
    ],
)
def test_what_fits_is_deleted_the_oldest_first(
    here: World, typed: list[str], kept: list[str]
) -> None:
    gone = [run_id for run_id in RUNS if run_id not in kept]
    told = here.json("prune", *typed, "--dry-run")
    assert [run["id"] for run in told["runs"]] == gone
    assert here.json("prune", *typed, "--yes")["deleted"] is True
    assert left(here) == kept


def test_what_is_not_over_stays_and_that_is_said(here: World) -> None:
    begin(here, "r261122-live00")
    here.call(make_run, here.blobs, "r261122-new000", created=datetime.now(UTC))
    old = here.call(make_run, here.blobs, "r261122-old000")
    code, out, err = here.type("prune", "experiment:digits", "--yes")
    assert (code, err) == (0, "2 runs that fit are not over and stay\n")
    assert "deleted 5 runs" in out and old.id in out
    assert left(here) == [RUNS[4], "r261122-live00", "r261122-new000"]


def test_nobody_is_there_to_ask(here: World) -> None:
    code, _, err = here.type("prune", "experiment:text", "--older", "1d")
    assert code == 2
    assert err.endswith("Type: crown-exp prune experiment:text --older 1d --yes\n")
    assert left(here) == RUNS


def test_nothing_fits(here: World) -> None:
    assert here.out("prune", "experiment:none") == [
        "no run fits; nothing to delete",
        "next: crown-exp prune",
    ]


def test_many_runs_are_told_in_a_short_table(here: World) -> None:
    for number in range(30):
        here.call(make_run, here.blobs, f"r261122-{number:06}")
    lines = here.out("prune", "experiment:digits", "--dry-run")
    assert len(lines) == 25
    assert lines[21].split()[:5] == ["...", "and", "14", "runs", "more"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["failed"], "failed: expected terms like tag:paper"),
        (["state:dead"], "state:dead: no such state"),
        (["--older", "30x"], "--older 30x: expected something like 30d or 12h"),
        (["--older", "30 steps"], "--older 30 steps: expected something like 30d"),
        (["--keep", "-1"], "Invalid value for '--keep'"),
        (["nothing<3"], "nothing"),
    ],
)
def test_what_is_no_term_is_one_line(here: World, typed: list[str], said: str) -> None:
    assert said in here.refused("prune", *typed)
    assert left(here) == RUNS


def test_a_kill_half_way_is_finished_by_the_same_again(here: World) -> None:
    killed = INTERRUPTED.replace("signal.SIGINT", "signal.SIGKILL").replace(
        "run.json", "config.yaml"
    )
    killed = killed.replace('"delete"', '"prune"')
    done = subprocess.run(
        [sys.executable, "-c", killed, "-", RUNS[1], "experiment:digits"],
        cwd=here.root, env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert not (here.runs / RUNS[1] / "run.json").exists()
    assert (here.runs / RUNS[1] / "config.yaml").exists()
    here.out("prune", "experiment:digits", "--yes")
    assert left(here) == RUNS[4:]


def test_what_this_machine_keeps_of_a_run_elsewhere_goes_with_it(here: World) -> None:
    home = here.database.parent
    for place in ("mirror", "spool/runs"):
        for run in RUNS[:2]:
            (home / place / run).mkdir(parents=True)
            (home / place / run / "pack").touch()
    here.out("delete", RUNS[0], "--yes")
    assert sorted(path.name for path in home.glob("mirror/*")) == [RUNS[1]]
    assert sorted(path.name for path in home.glob("spool/runs/*")) == [RUNS[1]]
