"""Runs on disks that are full, fill up, or turn read-only: loud, whole, and training goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from crown_exp import Run
from crown_exp.folder import RunPaths, decode_segment
from crown_exp.storage import Portal, open_blobs
from tests.running import Lab, Project

MEBIBYTE = 2**20
TASKS = """
def quick(run):
    for turn in run.steps(3):
        run.log(x=turn)
    return {"x": 3}
"""


@pytest.fixture
def disk(small_disk: Path) -> Path:
    return small_disk


def fill(disk: Path) -> Path:
    """Leave no byte."""
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def files(disk: Path) -> list[Path]:
    return [path for path in disk.rglob("*") if path.is_file() and path.name != "filler"]


# --- before the run ---------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, disk: Path) -> Project:
    project = Project.write(tmp_path / "project", TASKS)
    project.environment["CROWN_STORAGE__ROOT"] = str(disk / "store")
    return project


def test_a_disk_that_is_read_only(project: Project, disk: Path) -> None:
    remount(disk, "ro")
    done = project.crown("task=quick")
    assert done.returncode == 80
    (line,) = done.stdout.splitlines()
    assert "read-only file system; mount it writable or set CROWN_STORAGE__ROOT" in line


@pytest.mark.parametrize("room", [0, 1, 2, 3, 4])
def test_a_disk_that_is_full(project: Project, disk: Path, room: int) -> None:
    """room: pages that are left: the run's first files fit, its last do not."""
    filler = fill(disk)
    os.truncate(filler, filler.stat().st_size - room * 4096)
    done = project.crown("task=quick")
    assert done.returncode == 80
    (line,) = done.stdout.splitlines()
    assert f"in {disk}/store: no space left on device; free some space there" in line
    assert files(disk) == []


def test_a_disk_with_room_for_a_run_but_not_for_its_attempt(project: Project, disk: Path) -> None:
    filler = fill(disk)
    os.truncate(filler, filler.stat().st_size - 5 * 4096)
    done = project.crown("task=quick")
    assert done.returncode == 80
    assert "cannot write runs/" in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stdout
    assert not [path for path in files(disk) if "attempts" in path.parts]
    (record,) = [path for path in files(disk) if path.name == "run.json"]
    filler.unlink()
    assert project.crown("run", str(record.parent)).returncode == 0


# --- in the middle of it ----------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path: Path, disk: Path) -> Iterator[Lab]:
    with Portal() as portal:
        yield Lab(portal, open_blobs(str(disk / "store")), tmp_path / "home")


BROAD = {f"a_metric_with_a_long_name_{number}": 1.0 for number in range(300)}
"""More than the rest of a page."""


def test_a_disk_that_fills_up(lab: Lab, disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def task(run: Run) -> dict[str, int]:
        for turn in run.steps(10):
            if turn == 5:
                fill(disk)
            run.log(**BROAD)
            run._log.drain()
        return {"turns": run.step}

    run = lab.make(task)
    ended = lab.attempt(run)
    assert (ended.code, ended.ending.result) == (80, {"turns": 10})
    assert capsys.readouterr().err.count("cannot write the log") == 1
    assert f"{run} not recorded after 10 steps" in ended.said
    assert "  turns            10" in ended.said  # the result is not lost to who looks
    assert "not written: the end of the log " in ended.said
    assert f"not written: cannot write {RunPaths(run).result} in " in ended.said
    assert ended.said.splitlines()[-1] == f"next    crown-exp resume {run.partition('-')[2]}"
    assert "Traceback" not in ended.said
    assert ended.facts.result is None and not ended.facts.ends
    (segment,) = ended.segments
    assert not decode_segment(segment).torn
    assert [step for step, _ in ended.points] == [1, 2, 3, 4, 5]
    assert not [path for path in files(disk) if path.name.startswith(".")]


def test_a_disk_that_is_full_for_a_while(
    lab: Lab, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def task(run: Run) -> int:
        for turn in run.steps(10):
            if turn == 3:
                fill(disk)
            if turn == 7:
                (disk / "filler").unlink()
            run.log(**BROAD)
            run._log.drain()
        return 1

    ended = lab.run(task)
    assert (ended.code, ended.state) == (0, "completed")
    assert [step for step, _ in ended.points] == list(range(1, 11))
    said = capsys.readouterr().err
    assert said.count("cannot write the log") == said.count("is written again") == 1


def test_a_failure_on_a_full_disk_is_still_the_task_s(lab: Lab, disk: Path) -> None:
    def task(run: Run) -> None:
        fill(disk)
        raise ValueError("broken")

    ended = lab.run(task)
    assert ended.code == 1
    assert "ValueError: broken" in ended.said
    assert "not written: cannot write " in ended.said
