"""Files of a run: where they lie, who hears of them, and what happens when the store is away."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from crown_exp import Run
from crown_exp.errors import StoreError, TaskError
from crown_exp.folder import RunPaths
from crown_exp.runner.artifacts import Artifacts
from crown_exp.storage import BlobStore, Portal, open_blobs
from crown_exp.storage.memory import MemoryStore
from crown_exp.tracking import Artifact
from tests.running import Lab

RUN = "r261124-k7f3q2"
FILES = RunPaths(RUN).files


class Away(MemoryStore):
    """A store that cannot be reached while `away`."""

    away = False

    async def put(self, path: str, data: bytes | memoryview, *, create: bool = False) -> None:
        if self.away:
            raise StoreError(f"cannot write {path}: no network")
        await super().put(path, data, create=create)


@dataclass
class Desk:
    """Artifacts, with what they tell of."""

    portal: Portal
    blobs: BlobStore
    spool: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    told: list[Artifact] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.artifacts = Artifacts(
            self.portal, self.blobs, RunPaths(RUN), self.spool,
            event=lambda kind, **data: self.events.append({"kind": kind, **data}),
            tell=self.told.append, warn=self.said.append,
        )  # fmt: skip

    def stored(self) -> dict[str, bytes]:
        paths = [entry.path for entry in self.portal.call(self.blobs.list, FILES)]
        return {path.removeprefix(FILES): self.portal.call(self.blobs.get, path) for path in paths}

    def spooled(self) -> list[str]:
        return sorted(path.name for path in self.spool.rglob("*") if path.is_file())


@pytest.fixture
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


@pytest.fixture
def away(request: pytest.FixtureRequest) -> Away:
    return Away(request.node.name)


@pytest.fixture(params=["file", "memory"])
def desk(request: pytest.FixtureRequest, portal: Portal, tmp_path: Path) -> Desk:
    url = str(tmp_path / "store") if request.param == "file" else f"memory://{request.node.name}"
    return Desk(portal, open_blobs(url), tmp_path / "spool")


# --- where they lie ---------------------------------------------------------------------------------


def test_a_file_lies_under_its_step(desk: Desk) -> None:
    desk.artifacts.keep("a.txt", "before", 0)
    desk.artifacts.keep("a.txt", "in turn 12", 12)
    desk.artifacts.keep("grids/ü 学習 🦊.txt", "deep", 1_234_567)
    desk.artifacts.keep("no extension", b"", 12)
    assert desk.artifacts.finish() == ()
    desk.artifacts.clear()
    assert desk.stored() == {
        "000000/a.txt": b"before",
        "000012/a.txt": b"in turn 12",
        "000012/no extension": b"",
        "1234567/grids/ü 学習 🦊.txt": b"deep",
    }
    assert desk.spooled() == []
    assert desk.said == []


def test_the_log_and_the_tracker_hear_of_it(desk: Desk) -> None:
    desk.artifacts.keep("grids/a.png", b"picture", 3)
    (told,) = desk.told
    assert (told.name, told.step, told.kind) == ("grids/a.png", 3, "image")
    assert told.path.read_bytes() == b"picture"
    assert desk.events == [{"kind": "artifact", "file": "000003/grids/a.png", "bytes": 7}]


def test_the_same_name_in_the_same_turn_replaces(desk: Desk) -> None:
    for text in ("first", "second", "third"):
        desk.artifacts.keep("a.txt", text, 3)
    desk.artifacts.finish()
    assert desk.stored() == {"000003/a.txt": b"third"}


def test_in_a_store_of_files_it_is_there_at_once(portal: Portal, tmp_path: Path) -> None:
    desk = Desk(portal, open_blobs(str(tmp_path / "store")), tmp_path / "spool")
    desk.artifacts.keep("a.txt", "here", 3)
    assert (tmp_path / "store" / FILES / "000003/a.txt").read_text() == "here"
    assert not desk.spool.exists()


# --- names ------------------------------------------------------------------------------------------

NO_NAMES = [
    "", "/", "/etc/passwd", "../a", "a/../../b", ".", "a/", "a//b", "a\nb", "a\0b", "half \ud800",
    ".crown-lock", "a/.crown-temp-1", "x" * 256, "ü" * 128, "/".join(["x" * 200] * 5),
]  # fmt: skip


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_leaves_the_folder_or_is_none(desk: Desk, name: str) -> None:
    with pytest.raises(TaskError, match=r"cannot be a file.s name; expected one like samples\.png"):
        desk.artifacts.keep(name, "text", 1)
    assert desk.stored() == {}


def test_a_name_is_text(desk: Desk) -> None:
    with pytest.raises(TaskError, match="a name is text, not a PosixPath"):
        desk.artifacts.keep(Path("a.txt"), "text", 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a"), ("a/b", "a/b/c/d")])
def test_a_file_is_no_folder(desk: Desk, first: str, second: str) -> None:
    desk.artifacts.keep(first, "text", 1)
    with pytest.raises(TaskError, match=r"is a file, so .* cannot lie below it"):
        desk.artifacts.keep(second, "text", 1)
    desk.artifacts.keep(second, "text", 2)


def test_what_had_to_be_cut_is_said_once_a_name(desk: Desk) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("PIL")
    for step in range(5):
        desk.artifacts.keep("a.png", torch.full((2, 2), 3.0), step)
    assert desk.said == ["run.artifact: a.png: values in 3..3 are cut to 0..1"]


# --- a store that is away ---------------------------------------------------------------------------


def test_a_store_that_is_away_for_a_while(away: Away, portal: Portal, tmp_path: Path) -> None:
    desk = Desk(portal, away, tmp_path / "spool")
    away.away = True
    for step in range(3):
        desk.artifacts.keep("a.txt", f"step {step}", step)
    away.away = False
    assert desk.artifacts.finish() == ()
    assert len(desk.spooled()) == 3  # a tracker may still want them
    desk.artifacts.clear()
    assert desk.stored() == {f"00000{step}/a.txt": f"step {step}".encode() for step in range(3)}
    assert desk.spooled() == []
    (said,) = desk.said
    assert said.endswith("no network; training goes on, and it is tried again")


def test_a_store_that_stays_away(away: Away, portal: Portal, tmp_path: Path) -> None:
    desk = Desk(portal, away, tmp_path / "spool")
    away.away = True
    for step in range(15):
        desk.artifacts.keep("a.txt", "text", step)
    unwritten = desk.artifacts.finish()
    assert len(desk.told) == 15
    assert unwritten[-1] == "5 more files"
    assert len(unwritten) == 11
    first = desk.spool / FILES / "000000/a.txt"
    assert any(line.endswith(f"it is in {first}") for line in unwritten)
    assert first.read_text() == "text"
    assert len(desk.spooled()) == 15
    assert len(desk.said) == 1


def test_a_file_that_is_replaced_while_the_store_is_away(
    away: Away, portal: Portal, tmp_path: Path
) -> None:
    desk = Desk(portal, away, tmp_path / "spool")
    away.away = True
    desk.artifacts.keep("a.txt", "first", 1)
    desk.artifacts.keep("a.txt", "second", 1)
    away.away = False
    desk.artifacts.finish()
    assert desk.stored() == {"000001/a.txt": b"second"}


def test_nothing_takes_it(away: Away, portal: Portal, tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file where the spool should be")
    desk = Desk(portal, away, tmp_path / "spool")
    desk.artifacts.keep("a.txt", "first", 1)
    assert (desk.told, desk.events) == ([], [])
    (lost,) = desk.artifacts.finish()
    assert "cannot write runs/" in lost
    assert len(desk.said) == 1


# --- in a run ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["store", "memory://artifacts of a run"])
def test_a_task_stores_files(portal: Portal, tmp_path: Path, root: str) -> None:
    def task(run: Run) -> None:
        run.artifact("before.txt", "before any turn")
        for turn in run.steps(2):
            run.artifact("turn.json", {"turn": turn})

    url = root if "://" in root else str(tmp_path / root)
    lab = Lab(portal, open_blobs(url), tmp_path / "home")
    ended = lab.run(task)
    assert (ended.code, ended.ending.unwritten) == (0, ())
    prefix = RunPaths(ended.id).files
    found = [entry.path.removeprefix(prefix) for entry in portal.call(lab.blobs.list, prefix)]
    assert found == ["000000/before.txt", "000001/turn.json", "000002/turn.json"]
    events = [record for record in ended.records if record[0] == "e" and record[2] == "artifact"]
    assert [record[3]["file"] for record in events] == found


def test_a_mistake_ends_the_task_with_one_line(portal: Portal, tmp_path: Path) -> None:
    def task(run: Run) -> None:
        run.artifact("../a.txt", "text")

    ended = Lab(portal, open_blobs(str(tmp_path / "store")), tmp_path / "home").run(task)
    assert ended.code == 1
    assert "run.artifact: '../a.txt' cannot be a file's name" in ended.said
    assert "Traceback" not in ended.said


# --- read again -------------------------------------------------------------------------------------


def test_what_was_stored_is_found_again_by_name(desk: Desk) -> None:
    assert desk.artifacts.kept("a.txt") is None
    desk.artifacts.keep("a.txt", "first", 9)
    desk.artifacts.keep("deep/b.txt", "b", 9)
    desk.artifacts.keep("a.txt", "second", 1_000_000)
    for name, text in {"a.txt": "second", "deep/b.txt": "b"}.items():
        found = desk.artifacts.kept(name)
        assert found is not None and found.read_text() == text
    assert desk.artifacts.kept("b.txt") is None


@pytest.mark.parametrize("store", ["file", "memory"])
def test_the_next_attempt_finds_it_on_its_machine(
    store: str, portal: Portal, tmp_path: Path
) -> None:
    blobs = open_blobs(str(tmp_path / "store")) if store == "file" else MemoryStore()
    first = Desk(portal, blobs, tmp_path / "spool").artifacts
    first.keep("a.txt", "old", 999_999)
    first.keep("a.txt", "new", 1_000_000)
    assert not first.finish()
    first.clear()
    second = Desk(portal, blobs, tmp_path / "elsewhere")
    second.artifacts.up_to = 1_000_000  # the turn that it goes on from
    found = second.artifacts.kept("a.txt")
    assert found is not None and found.read_text() == "new"
    second.artifacts.clear()
    assert second.spooled() == []  # nothing is left on that machine
    assert second.stored().keys() == {"999999/a.txt", "1000000/a.txt"}


@pytest.mark.parametrize("saved", [True, False])
def test_a_task_goes_on_after_what_it_stored(lab: Lab, saved: bool) -> None:
    """What was stored after the state that it goes on from is made again, and logged again with it."""
    made = []

    def task(run: Run) -> None:
        for shard in run.steps(3):
            if run.kept(f"{shard}.txt") is None:
                made.append(shard)
                run.artifact(f"{shard}.txt", f"shard {shard}")
                run.log(shard=shard)
                if shard == 1 and run.attempt == 1:
                    if not saved:
                        raise KeyboardInterrupt
                    os.kill(os.getpid(), signal.SIGINT)

    run = lab.make(task)
    assert lab.attempt(run).code == 130
    again = lab.attempt(run)
    assert again.code == 0
    assert made == ([0, 1, 2] if saved else [0, 1, 0, 1, 2])


def test_a_turn_that_was_left_keeps_its_number_and_its_files(lab: Lab) -> None:
    def task(run: Run) -> int:
        for turn in run.steps(10):
            run.log(loss=1.0)
            run.artifact("a.txt", "first")
            if turn == 3:
                break
        after = run.step
        for _ in run.steps(2, name="two"):
            run.log(loss=2.0)
            run.artifact("a.txt", "second")
        return after

    ended = lab.run(task)
    assert ended.ending.result == 4
    assert [step for step, _ in ended.points] == [1, 2, 3, 4, 5, 6]
    files = lab.blobs.local_path(f"runs/{ended.id}/files")
    assert files is not None
    assert (files / "000004/a.txt").read_text() == "first"
    assert (files / "000005/a.txt").read_text() == "second"
