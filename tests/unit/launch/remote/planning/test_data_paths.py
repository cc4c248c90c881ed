"""Paths of this machine in the config of a run that is to happen on another one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crown_exp.compute.base import Target
from crown_exp.compute.tree import project_tree
from crown_exp.config import schema
from crown_exp.config.check import Checked
from crown_exp.config.compose import Composition
from crown_exp.config.project import find_project
from crown_exp.config.targets import Target as Function
from crown_exp.launch.remote.planning.data_paths import local_data, path_in, texts, travels
from crown_exp.launch.session import Session, open_session
from crown_exp.launch.submit import Order

AFAR = Target(name="a100", executor="skypilot")
CLUSTER = Target(name="cluster", executor="slurm", shared=True)
ONLY = "is only on this machine, not on those of compute=a100; type crown-exp upload"
AND = "and name the URL that it prints"


def order(bound: tuple[str, ...] = (), init_from: str | None = None, **groups: Any) -> Order:
    tree = schema.defaults() | {"task": {"_target_": "m.train"}} | groups
    tree["checkpoint"] = tree["checkpoint"] | {"init_from": init_from}
    checked = Checked(Function("m.train", "function"), bound, whole=False)
    return Order(Composition(tree, {}, ()), checked)


def task(**keys: Any) -> Order:
    return order(task={"_target_": "m.train", **keys})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in git with data that is tracked, new, and ignored; and data outside of it."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    root = tmp_path / "project"
    for name in (
        "project/pyproject.toml", "project/tracked/a.csv", "project/tracked/__pycache__/a.pyc",
        "project/new/b.csv", "project/data/c.csv", "project/mixed/.gitkeep", "project/mixed/d.ckpt",
        "project/below/here.csv", "outside/e.csv",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("[tool.crown_exp]\n" if name.endswith("toml") else "1,2\n")
    (root / ".gitignore").write_text("data/\n*.ckpt\n__pycache__/\n")
    (tmp_path / "empty").mkdir()
    commands = [["init", "-q"], ["add", "tracked", "mixed", "below", ".gitignore"]]
    for command in commands:
        subprocess.run(["git", *command], cwd=root, check=True)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def session(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setenv("CROWN_STORAGE__ROOT", "s3://bucket/here")
    with open_session(find_project(project)) as opened:
        yield opened


def told(session: Session, asked: Order, target: Target = AFAR) -> list[str]:
    return [str(problem) for problem in local_data(session, asked, target)]


def test_what_travels_with_the_project_is_fine(session: Session) -> None:
    assert told(session, task(path="tracked/a.csv", folder="./tracked/", other="new/b.csv")) == []
    assert told(session, task(path="tracked/a.csv"), CLUSTER) == []


def test_what_is_ignored_or_outside_is_refused_with_what_to_type(
    session: Session, tmp_path: Path
) -> None:
    outside = str(tmp_path / "outside/e.csv")
    found = told(
        session, task(path="data/c.csv", root="data", mixed_folder="mixed", far=outside, deep={"x": [outside]})
    )  # fmt: skip
    assert found == [
        f"task.path: 'data/c.csv' {ONLY} data/c.csv {AND}",
        f"task.root: 'data' {ONLY} data {AND}",
        f"task.mixed_folder: 'mixed' {ONLY} mixed {AND}",
        f"task.far: {outside!r} {ONLY} {outside} {AND}",
        f"task.deep.x[0]: {outside!r} {ONLY} {outside} {AND}",
    ]


def test_groups_that_the_task_is_handed_are_looked_at_and_others_are_not(session: Session) -> None:
    groups: dict[str, Any] = {
        "dataset": {"_target_": "m.D", "root": "data"},
        "model": {"vocab": "data/c.csv"},
    }
    found = told(session, order(("dataset",), **groups))
    assert [line.partition(":")[0] for line in found] == ["dataset.root"]


def test_an_absolute_path_into_the_project_is_told_as_it_is_found_there(session: Session) -> None:
    absolute = str(Path.cwd() / "tracked/a.csv")
    assert told(session, task(path=absolute)) == [
        f"task.path: {absolute!r}: the project lies elsewhere on machines of compute=a100; "
        "type task.path=tracked/a.csv"
    ]
    assert told(session, task(path=absolute), CLUSTER) == []


def test_a_path_relative_to_a_folder_below_the_project(
    session: Session, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project / "below")
    (line,) = told(session, task(path="./here.csv"))
    assert line.endswith("type task.path=below/here.csv")


def test_a_cluster_that_sees_our_files_is_told_the_absolute_path(session: Session) -> None:
    absolute = Path.cwd() / "data/c.csv"
    assert told(session, task(path="data/c.csv"), CLUSTER) == [
        "task.path: 'data/c.csv': a job begins in a copy of the project, where it is not; "
        f"type task.path={absolute}"
    ]
    assert told(session, task(path=str(absolute)), CLUSTER) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task.path", "not/here.csv"), ("task.path", "s3://bucket/data"), ("task.name", "facebook/opt-125m"),
        ("task.mode", "data"), ("task.split", "tracked"), ("task.path", "/"), ("task.path", "/dev/null"),
        ("task.path", "/usr"), ("task.path", "/tmp"), ("task.cache_dir", "data"), ("task.output", "data/"),
        ("task.save_path", "data/"), ("task.path", ""), ("task.path", " "), ("task.path", "\x01/\x02"),
        ("task.path", "~nobody-of-this-name/x"), ("task.path", "file://elsewhere/x"), ("task.path", "x" * 999),
    ],
)  # fmt: skip
def test_these_are_no_paths_of_this_machine_alone(project: Path, key: str, value: str) -> None:
    assert path_in(key, value) is None


def test_these_are(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in (
        "~/outside",
        (tmp_path / "outside").as_uri(),
        "data/",
        str(tmp_path / "outside/e.csv"),
    ):
        assert path_in("task.x", text) is not None, text
    assert path_in("task.x", str(tmp_path / "empty")) is None


def test_without_git_what_is_in_the_project_travels_but_for_what_no_bundle_has(
    session: Session, project: Path, tmp_path: Path
) -> None:
    (project / ".git").rename(tmp_path / "away")
    for name in (".crown/x.csv", "build/x.csv", "data/.hidden/x.csv"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("1")
    assert told(session, task(path="data/c.csv", root="tracked")) == []
    for path in (".crown/x.csv", "build/x.csv", "data/.hidden/x.csv", "data/"):
        assert len(told(session, task(path=path))) == 1, path


def test_a_repository_within_travels_if_the_project_has_it(session: Session, project: Path) -> None:
    for name in ("part", "data/part"):
        inner = project / name
        inner.mkdir(parents=True)
        (inner / "x.csv").write_text("1")
        (inner / "y.csv").write_text("1")
        (inner / ".gitignore").write_text("y.csv\n")
        subprocess.run(["git", "init", "-q"], cwd=inner, check=True)
        subprocess.run(["git", "add", "x.csv"], cwd=inner, check=True)
    assert told(session, task(path="part/x.csv")) == []
    for path in ("part/y.csv", "data/part/x.csv"):
        assert len(told(session, task(path=path))) == 1, path


@pytest.mark.parametrize("git", [True, False])
def test_each_file_travels_that_is_in_a_bundle_and_no_other(
    project: Path, tmp_path: Path, git: bool
) -> None:
    for name in (".env", "deep/.env.local", "build/x", ".hidden/x", "part/x.csv", "part/y.ckpt"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("1")
    if git:
        subprocess.run(["git", "init", "-q"], cwd=project / "part", check=True)
    else:
        (project / ".git").rename(tmp_path / "away")
    bundled = {file.path for file in project_tree(project, [], {}).files}
    files = [
        path for path in project.rglob("*")
        if path.is_file() and not {".git", "__pycache__"} & set(path.relative_to(project).parts)
    ]  # fmt: skip
    found = {path.relative_to(project).as_posix() for path in files if travels(project, path)}
    assert found == bundled
    assert len(found) > 5


def test_weights_to_begin_with(session: Session, tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").write_bytes(b"x")
    (Path.cwd() / "net.pt").write_bytes(b"x")
    file = str(tmp_path / "net.safetensors")
    assert told(session, order(init_from=file)) == [
        f"checkpoint.init_from: {file!r} {ONLY} {file} {AND}"
    ]
    assert told(session, order(init_from="net.pt")) == [
        f"checkpoint.init_from: 'net.pt' {ONLY} net.pt {AND}"
    ]
    assert told(session, order(init_from=file), CLUSTER) == []
    folder = f"{tmp_path}/store/runs/r261130-abc123@5"
    (line,) = told(session, order(init_from=folder))
    assert (
        line.startswith("checkpoint.init_from:") and "compute=a100 does not see that store" in line
    )
    for text in (
        None,
        "k7f",
        "k7f@best",
        "s3://bucket/here/runs/r261130-abc123@5",
        "s3://b/net.pt",
    ):
        assert told(session, order(init_from=text)) == []


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(value=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8,
))  # fmt: skip
def test_any_value_is_looked_at_without_trouble(project: Path, value: Any) -> None:
    for key, text in texts(value, "task"):
        assert key.startswith("task")
        path_in(key, text)
