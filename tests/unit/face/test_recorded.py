"""`crown_exp.open`: one run, as Python sees it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

import crown_exp
from crown_exp.errors import ConfigError, CrownError, TaskError
from crown_exp.face import shown
from crown_exp.face.curves import Curve
from crown_exp.face.files import Files, RunFile
from crown_exp.face.source import Source
from crown_exp.registry.base import FileInfo
from crown_exp.storage import NotFound
from tests.running import Project


def test_it_tells_what_was_recorded(ids: list[str]) -> None:
    run = crown_exp.open(ids[0])
    assert (run.id, run.name, run.experiment) == (ids[0], "line", None)
    assert (run.state, run.step, run.tags, run.note) == ("completed", 4, ("paper",), "")
    assert run.result == {"accuracy": 1.0, "by": {"name": "plain"}}
    assert run.config["model"] == {"_target_": "tasks.Line", "width": 3}
    assert run.created.tzinfo is UTC
    assert isinstance(run.folder, Path) and (run.folder / "run.json").exists()
    assert [attempt.exit_code for attempt in run.attempts] == [0]
    assert (run.metrics["loss"].n, run.metrics["loss"].min, run.metrics["loss"].last_step) == (
        4,
        0.25,
        4,
    )
    assert (len(run.files), repr(run.files)) == (0, "<no files>")


def test_the_end_of_an_id_will_do(ids: list[str]) -> None:
    assert crown_exp.open(ids[1].partition("-")[2][:6]).id == ids[1]


def test_unknown_and_ambiguous(ids: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"^zzz: no run that is indexed has this id"):
        crown_exp.open("zzz")
    with pytest.raises(ConfigError, match="several runs fit"):
        crown_exp.open("r2")


def test_what_is_no_id(ids: list[str]) -> None:
    for nothing in ("", " "):
        with pytest.raises(
            ConfigError, match=r"^run: expected an id or its beginning, or `latest`"
        ):
            crown_exp.open(nothing)
    for wrong in (5, None, b"r2"):
        with pytest.raises(TypeError, match=rf"^run: expected a text, got {wrong!r}$"):
            crown_exp.open(wrong)  # type: ignore[arg-type]


def test_wrong_arguments_of_a_run_are_one_line(ids: list[str]) -> None:
    run: Any = crown_exp.open(ids[1])
    for at_most in (0, -1, 10**30):
        with pytest.raises(ConfigError, match=r"^at_most: expected a number from 1 to 2147483647"):
            run.curve("loss", at_most=at_most)
    for at_most in ("2", 2.0, False):
        with pytest.raises(TypeError, match=r"^at_most: expected a whole number or None, got "):
            run.curve("loss", at_most=at_most)
    with pytest.raises(TypeError, match=r"^metric: expected a text, got 5$"):
        run.curve(5)
    with pytest.raises(TypeError, match=r"^group: expected a text, got \['model'\]$"):
        run.build(["model"])
    assert len(run.curve("loss", at_most=1)) == 1


def test_a_repr_holds_nothing_that_a_terminal_obeys(ids: list[str]) -> None:
    run = crown_exp.open(ids[0])
    odd = replace(run.info, result={"a\x1b[31m" + "b" * 5000: 1.0}, name="n\x07", tags=("t\x1b",))
    curve = Curve(ids[0], "loss\x1b[31m\n" + "x" * 5000, [1], [0.5], [0.0])
    for said in (shown.line(odd), repr(curve)):
        assert said.isprintable() and len(said) < 250


def test_a_curve(ids: list[str]) -> None:
    curve = crown_exp.open(ids[1]).curve("loss")
    assert (curve.steps, curve.values) == ([1, 2, 3, 4], [2.0, 1.0, 2 / 3, 0.5])
    assert curve.times == sorted(curve.times)
    assert repr(curve) == f"<curve loss of {ids[1]}: 4 points in steps 1..4, last 0.5>"
    assert crown_exp.open(ids[1]).curve("loss", at_most=2).steps == [2, 4]
    with pytest.raises(ConfigError, match=r"los: .* did you mean loss\?"):
        crown_exp.open(ids[1]).curve("los")


def test_a_curve_as_a_table(ids: list[str]) -> None:
    pytest.importorskip("pandas")
    table = crown_exp.open(ids[1]).curve("loss").to_pandas()
    assert list(table.columns) == ["loss", "time"]
    assert (table.index.name, table.index.tolist()) == ("step", [1, 2, 3, 4])
    assert table["loss"].tolist() == [2.0, 1.0, 2 / 3, 0.5]
    assert str(table["time"].dt.tz) == "UTC"
    assert crown_exp.open(ids[1]).created.year == table["time"].iloc[0].year


def test_a_group_is_built(ids: list[str]) -> None:
    run = crown_exp.open(ids[0])
    model = run.build("model")
    assert type(model).__name__ == "Line"
    assert {str(weights.device) for weights in model.parameters()} == {"cpu"}
    assert run.build("model", bias=False).layer.bias is None
    assert next(run.build("model", device="meta").parameters()).is_meta
    with pytest.raises(ConfigError, match=r"modle: .* did you mean model\?"):
        run.build("modle")
    with pytest.raises(TaskError, match=r"tasks\.Line cannot be built: .*'depth'"):
        run.build("model", depth=3)


def test_the_code(ids: list[str]) -> None:
    code = crown_exp.open(ids[0]).code
    assert code is not None
    assert (code.commit, code.dirty, code.diff) == (
        None,
        True,
        "",
    )  # the project is in no repository
    assert "torch" in code.packages


def test_a_later_change_of_directory_changes_nothing(
    ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, runs = crown_exp.open(ids[0]), crown_exp.runs()
    monkeypatch.chdir(tmp_path)
    assert run.curve("loss").steps == [1, 2, 3, 4]
    assert len(runs) == 3
    with pytest.raises(ConfigError):
        crown_exp.open(ids[0])


def test_within_a_running_loop_and_no_thread_is_left(ids: list[str]) -> None:
    async def cell() -> list[float]:
        assert len(crown_exp.runs()) == 3
        return crown_exp.open(ids[0]).curve("loss").values

    before = set(threading.enumerate())
    assert len(asyncio.run(cell())) == 4
    assert {thread for thread in threading.enumerate() if not thread.daemon} <= before


def test_it_can_be_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project.write(tmp_path, "def short(run):\n    return run.steps and 1\n")
    monkeypatch.chdir(project.root)
    run = crown_exp.open(crown_exp.start("task=short").id)
    assert run.refresh() is run
    for path in sorted(Path(run.folder).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    crown_exp.start("task=short")
    with pytest.raises(ConfigError, match="no run that is indexed has this id"):
        run.refresh()
    assert run.result == 1  # what was read is still there


def test_a_config_that_is_gone(
    ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project.write(tmp_path, "def short(run):\n    return 1\n")
    monkeypatch.chdir(project.root)
    started = crown_exp.start("task=short")
    (Path(started.folder) / "config.yaml").unlink()
    (project.root / ".crown/registry.db").unlink()
    with pytest.raises(CrownError, match="could not be read"):
        crown_exp.open(started.id).config  # noqa: B018


# --- files ------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Files:
    found = [
        FileInfo("000010/a.txt", 10, 6, "text"),
        FileInfo("000002/a.txt", 2, 5, "text"),
        FileInfo("000002/grids/b.png", 2, 4, "image"),
        FileInfo("loose", None, 0, "file"),
    ]
    folder = tmp_path / "runs/r1-a/files"
    for info, data in zip(found, (b"second", b"first", b"\x89PNG", b""), strict=True):
        (folder / info.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / info.path).write_bytes(data)
    return Files(Source.here(), "r1-a", tmp_path.as_uri(), found)


def test_files_go_by_path_or_by_name(files: Files) -> None:
    assert list(files) == ["loose", "000002/a.txt", "000002/grids/b.png", "000010/a.txt"]
    assert (files["a.txt"].text(), files["a.txt"].step) == ("second", 10)
    assert files["000002/a.txt"].read() == b"first"
    assert files["grids/b.png"].path is not None
    assert "b.png" not in files
    assert files.get("nope") is None
    with pytest.raises(KeyError, match=r"did you mean a\.txt\?"):
        files["b.txt"]


def test_a_picture_is_shown_as_one(files: Files) -> None:
    assert files["grids/b.png"]._repr_mimebundle_()["image/png"] == "iVBORw=="
    assert files["a.txt"]._repr_mimebundle_() == {"text/plain": "<text a.txt of step 10, 6 bytes>"}


def test_a_file_that_is_gone(files: Files) -> None:
    with pytest.raises(NotFound):
        RunFile(
            "a", 1, 1, "file", Source.here(), files["loose"].store, "runs/r1-a/files/000001/a"
        ).read()
