"""`crown-exp run`: a recorded run by its folder, its id or the beginning of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import crown_exp
from crown_exp.__main__ import guarded

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that is recorded and was never begun."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CROWN_HOME", str(tmp_path / "home"))
    (tmp_path / "pyproject.toml").write_text("[tool.crown_exp]\n")
    (tmp_path / "quick_task.py").write_text("def train(run):\n    return 7\n")
    (tmp_path / "conf" / "task").mkdir(parents=True)
    (tmp_path / "conf" / "task" / "quick.yaml").write_text("_target_: quick_task.train\n")
    folder = Path(crown_exp.start("task=quick", "device=cpu").folder)
    for part in ("attempts", "result.json"):
        gone = folder / part
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    return folder


@pytest.mark.parametrize("typed", ["the folder", "the id", "its beginning", "after the dash"])
def test_a_run_is_found(run: Path, typed: str, capsys: Capture) -> None:
    name = run.name
    how = {"the folder": str(run), "the id": name, "its beginning": name[:9]}
    assert guarded(["run", how.get(typed, name.partition("-")[2])]) == 0
    assert json.loads((run / "result.json").read_text())["result"] == 7


def test_an_unknown_run_is_one_line_that_names_the_store(run: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert guarded(["run", "zzzz"]) == 2
    said = capsys.readouterr().err
    assert said == f"zzzz: no run in file://{run.parents[1]} has this id\n"


def changed(file: Path, **values: Any) -> str:
    return json.dumps(json.loads(file.read_text()) | values)


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("run.json", "{", 80),
        ("run.json", "", 80),
        ("run.json", "seed", 80),
        ("run.json", "format", 2),
        ("config.yaml", "a: [", 80),
        ("config.yaml", "a: 1", 80),
        ("config.yaml", None, 80),
    ],
)
def test_a_damaged_record_is_one_line(
    run: Path, file: str, content: str | None, code: int, capsys: Capture
) -> None:
    path = run / file
    if content is None:
        path.unlink()
    elif content == "seed":
        path.write_text(changed(path, seed="one"))
    elif content == "format":
        path.write_text(changed(path, format=99))
    else:
        path.write_text(content)
    capsys.readouterr()
    assert guarded(["run", run.name]) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert file in said


def test_a_job_changes_what_its_record_says_and_no_other_does(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the job comes with it, the record lies in the run's folder."""
    from datetime import UTC, datetime

    from crown_exp.folder import JobRecord, encode

    (run / "jobs").mkdir()
    for number, steps in ((1, 11), (2, 12)):
        name = run.name if number == 1 else f"{run.name}-{number}"
        record = JobRecord(
            run=run.name, number=number, executor="skypilot", created=datetime.now(UTC), job=name,
            cancelled=False, changes={"limits.steps": steps},
        )  # fmt: skip
        (run / f"jobs/{number:04}.json").write_bytes(encode(record))
    monkeypatch.setenv("CROWN_JOB", f"{run.name}-2")
    assert guarded(["run", str(run)]) == 0
    attempt = json.loads((run / "attempts/000001.json").read_text())
    assert (attempt["job"], attempt["changes"]) == (f"{run.name}-2", {"limits.steps": 12})


def test_a_job_that_nobody_recorded_changes_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROWN_JOB", "another")
    assert guarded(["run", str(run)]) == 0
    assert json.loads((run / "attempts/000001.json").read_text())["changes"] is None
