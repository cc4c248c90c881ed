"""`crown-exp upload`: data into the store, and to the task as a path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.running import Project
from tests.typed import Typed

TASKS = """
from pathlib import Path

def train(run, *, data: str, change: bool = False):
    path = run.fetch(data)
    return {"text": path.read_text() if path.is_file() else sorted(it.name for it in path.iterdir())}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project.write(tmp_path / "theirs", TASKS)
    (made.root / "rows").mkdir()
    for name in ("a.csv", "b.csv"):
        (made.root / "rows" / name).write_text(f"of {name}\n")
    return made


def result(project: Project) -> dict[str, object]:
    found: dict[str, object] = json.loads((project.runs[-1] / "result.json").read_text())["result"]
    return found


def test_a_task_has_the_data_as_a_path(project: Project) -> None:
    done = project.crown("upload", "rows/a.csv")
    assert done.returncode == 0
    told, url, then = done.stdout.splitlines()
    assert url.startswith("file://") and "/.crown/store/data/" in url and url.endswith("/a.csv")
    assert told == "a.csv: 1 file, 0.0 MB"
    assert then == "next: name this URL in the config; run.fetch(url) is its path in the task"
    assert project.crown("task=train", f"task.data={url}").returncode == 0
    assert result(project) == {"text": "of a.csv\n"}


def test_a_folder_is_sent_once_and_a_path_stays_a_path(project: Project) -> None:
    one, two = (
        json.loads(project.crown("upload", "--json", "rows").stdout.splitlines()[-1])
        for _ in range(2)
    )
    assert (one["files"], one["sent"], two["sent"]) == (2, 2, 0)
    assert one["url"] == two["url"]
    assert project.crown("task=train", f"task.data={one['url']}").returncode == 0
    assert result(project) == {"text": ["a.csv", "b.csv"]}
    assert project.crown("task=train", "task.data=rows/b.csv").returncode == 0
    assert result(project) == {"text": "of b.csv\n"}


def test_ctrl_c_leaves_nothing_half_done_and_it_goes_on_when_typed_again(project: Project) -> None:
    with (project.root / "rows/huge.bin").open("wb") as file:
        file.truncate(20 << 30)  # which takes a while to read, and no room
    typed = Typed(project, "upload", "rows")
    typed.wait_for("rows: 3 files, 21.5 GB")
    typed.wait_for("reading")
    typed.type("\x03")
    assert typed.end() == 130
    assert "typed again, it goes on with what is missing" in typed.said
    assert not list((project.root / ".crown/store").glob("data/*"))
    (project.root / "rows/huge.bin").unlink()
    first = json.loads(project.crown("upload", "--json", "rows").stdout.splitlines()[-1])
    Path(first["url"].removeprefix("file://"), "b.csv").unlink()  # as if it had been cut off before
    again = project.crown("upload", "rows")
    assert again.stdout.splitlines() == [
        "rows: 2 files, 0.0 MB",
        first["url"],
        "1 file of them was there",
        "next: name this URL in the config; run.fetch(url) is its path in the task",
    ]


@pytest.mark.parametrize(
    ("typed", "code", "expected"),
    [
        (["upload", "none.csv"], 2, "none.csv: no such file or directory"),
        (["upload"], 2, "Missing argument 'PATH'"),
        (["task=train", "task.data=http://example.org/x"], 1,
         "run.fetch('http://example.org/x'): expected a path, or a URL that crown-exp upload printed"),
        (["task=train", "task.data=file:///none/data/0123456789abcdef/x"], 80,
         "there is no data/0123456789abcdef/x in file:///none"),
    ],
)  # fmt: skip
def test_bad_input(project: Project, typed: list[str], code: int, expected: str) -> None:
    done = project.crown(*typed)
    assert expected in done.stdout
    assert done.returncode == code
    assert "Traceback" not in done.stdout


def test_a_store_in_memory_keeps_nothing(project: Project) -> None:
    done = project.crown("upload", "rows", env={"CROWN_STORAGE__ROOT": "memory://x"})
    assert done.returncode == 2
    assert (
        "is gone when this process ends; set CROWN_STORAGE__ROOT=s3://bucket/prefix" in done.stdout
    )
