"""`checkpoint.init_from` before a run is made: it is named for good, and what is wrong is told in a line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crown_exp.config import schema
from crown_exp.config.check import Checked
from crown_exp.config.compose import Composition
from crown_exp.config.project import find_project
from crown_exp.config.targets import Target
from crown_exp.errors import ConfigError
from crown_exp.launch.forking import NEAR
from crown_exp.launch.session import Session, open_session
from crown_exp.launch.submit import Order
from tests.exactness.zygote import Zygote
from tests.running import Project

TASKS = """
import os

import torch
from torch import nn


def train(run, steps=8, wide=2, name="net", metric=True, kill=0):
    torch.set_num_threads(1)
    net = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, wide))
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    run.track(**{name: net}, opt=opt)
    start = float(net[0].weight.sum())
    for index in run.steps(steps):
        if kill and index == kill and run.attempt == 1:
            os.kill(os.getpid(), 9)
        if metric and run.every("1 step"):
            run.log(score=-abs(index - 2))
        run.backward(net(torch.ones(1, 1)).pow(2).sum())
        run.update(opt)
    return {"start": start, "end": float(net[0].weight.sum())}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, zygote: Zygote) -> Project:
    made = Project.write(tmp_path_factory.mktemp("project"), TASKS)
    made.zygote = zygote
    done = made.crown(
        "task=train", "checkpoint.every=1 steps", "checkpoint.keep_last=9",
        "checkpoint.keep_best=max score", "device.kind=cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return made


@pytest.fixture
def session(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.chdir(project.root)
    with open_session(find_project(project.root)) as opened:
        yield opened


def source(project: Project) -> str:
    return project.runs[0].name


def steps(project: Project) -> list[int]:
    """The steps that it has checkpoints of; a save that is in flight keeps others from being made."""
    saved = sorted((project.runs[0] / "checkpoints").glob("*.json"))
    return [json.loads(path.read_text())["step"] for path in saved]


def tail(run: str) -> str:
    return run.partition("-")[2]


def record(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())  # type: ignore[no-any-return]


def init_from(run: Path) -> str:
    lines = (run / "config.yaml").read_text().splitlines()
    return next(line for line in lines if "init_from:" in line).partition(": ")[2]


def result(run: Path) -> dict[str, float]:
    return json.loads((run / "result.json").read_text())["result"]  # type: ignore[no-any-return]


def order(text: str | None, rules: dict[str, str | None] | None = None) -> Order:
    tree = schema.defaults() | {"task": {"_target_": "tasks.train"}}
    tree["checkpoint"] |= {"init_from": text, "init_map": rules or {}}
    return Order(Composition(tree, {}, ()), Checked(Target("tasks.train", "function"), (), False))


def made(session: Session, text: str, rules: dict[str, str | None] | None = None) -> Path:
    """The folder of a run that was recorded."""
    run = session.make(order(text, rules))
    folder = session.blobs.local_path(f"runs/{run.id}")
    assert folder is not None
    return folder


def refused(session: Session, text: str | None, rules: Any = None) -> str:
    """The line that kept a run from being recorded."""
    before = session.portal.call(session.blobs.folders, "runs/")
    with pytest.raises(ConfigError) as error:
        session.make(order(text, rules))
    assert session.portal.call(session.blobs.folders, "runs/") == before
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("typed", ["ID", "TAIL", "ID@latest", "FOLDER", "FOLDER@8", "ID@8"])
def test_whatever_names_it_is_recorded_for_good(
    project: Project, session: Session, typed: str
) -> None:
    run = source(project)
    names = {"ID": run, "TAIL": tail(run), "FOLDER": str(project.runs[0])}
    name, _, step = typed.partition("@")
    folder = made(session, f"{names[name]}@{step}" if step else names[name])
    assert init_from(folder) == f"{run}@8"
    lineage = record(folder)["lineage"]["init_from"]
    assert (lineage["run"], lineage["step"], lineage["attempt"]) == (run, 8, 1)
    again = made(session, f"{run}@8")
    assert record(again)["signature"] == record(folder)["signature"]
    other = made(session, f"{run}@{steps(project)[0]}")
    assert record(other)["signature"] != record(folder)["signature"]


def test_the_best_is_the_one_that_its_own_config_keeps(project: Project, session: Session) -> None:
    folder = made(session, f"{source(project)}@best")
    saved = sorted((project.runs[0] / "checkpoints").glob("*.json"))
    scores = {
        it["step"]: it["metrics"]["score"]
        for it in map(json.loads, map(Path.read_text, saved))
        if it["metrics"]
    }
    best = max(scores, key=lambda step: (scores[step], -step))
    assert init_from(folder) == f"{source(project)}@{best}"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("ID@9", "no checkpoint at step 9; there are STEPS"),
        ("ID@x", "expected RUN@STEP"),
        ("nosuchrun", "has this id"),
        ("ROOT/runs/r261124-999999@2", "has this id"),
        ("ROOT/gone.pt", "no such file"),
        ("ROOT/pyproject.toml", "expected a .safetensors file"),
        ("nope://bucket/w.pt", "nope"),
        ("a b", "expected a run"),
    ],
)
def test_what_cannot_be_is_refused_before_a_run_is_recorded(
    project: Project, session: Session, text: str, line: str
) -> None:
    text = text.replace("ID", source(project)).replace("ROOT", str(project.root))
    said = refused(session, text)
    nearest = sorted(steps(project))[
        -NEAR:
    ]  # how many there are depends on how fast they are saved
    assert line.replace("STEPS", ", ".join(map(str, nearest))) in said
    assert said.startswith("checkpoint.init_from")


def test_rules_are_held_against_what_is_there_before_a_run_is_recorded(
    project: Project, session: Session
) -> None:
    said = refused(session, source(project), {"nett": "net"})
    assert said == "checkpoint.init_map.nett: begins no name there; did you mean net?"
    assert "both" in refused(session, source(project), {"net.0": "net.9", "1": "9"})
    assert "which is not set" in refused(session, None, {"a": "b"})


def test_all_runs_of_a_sweep_are_looked_up_before_one_is_made(
    project: Project, session: Session
) -> None:
    with pytest.raises(ConfigError, match="no checkpoint at step 77"):
        session.approve([order(f"{source(project)}@8"), order(f"{source(project)}@77")])


def test_a_run_without_keep_best_a_checkpoint_or_a_module_is_refused(
    project: Project, session: Session
) -> None:
    bare = made(session, f"{source(project)}@8").name  # recorded, and never begun
    assert "has no checkpoint" in refused(session, bare)
    assert "its config has no checkpoint.keep_best" in refused(session, f"{bare}@best")


def test_a_damaged_source_is_refused_or_passed_over(
    project: Project, session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "store/runs" / source(project)
    shutil.copytree(project.runs[0], copy)
    newest = json.loads(sorted((copy / "checkpoints").glob("*.json"))[-1].read_text())
    older = {pack.name for pack in (copy / "packs").iterdir()} - {
        pack["sha256"] for pack in newest["packs"]
    }
    assert older
    for pack in newest["packs"]:
        path = copy / "packs" / pack["sha256"]
        data = bytearray(path.read_bytes())
        data[0] ^= 1
        path.unlink()
        path.write_bytes(data)
    said = refused(session, f"{copy}@8")
    assert said.startswith(f"checkpoint.init_from={copy}@8: the checkpoint is damaged")
    folder = made(session, str(copy))
    before = steps(project)[-2]
    assert init_from(folder) == f"file://{tmp_path}/store/runs/{copy.name}@{before}"
    assert f"step {before}, as the one after it is damaged" in capsys.readouterr().err


def test_a_file_is_recorded_with_what_it_holds(project: Project, session: Session) -> None:
    import torch

    path = project.root / "w.pt"
    torch.save({"0.weight": torch.ones(2, 1)}, path)
    first = made(session, "w.pt")
    assert init_from(first).startswith(f"{path}@")
    torch.save({"0.weight": torch.zeros(2, 1)}, path)
    session.weights.clear()
    second = made(session, "w.pt")
    assert record(second)["signature"] != record(first)["signature"]
    assert "it is another file now" in refused(session, init_from(first))


def test_it_goes_on_by_its_id_and_by_latest_and_debug_and_fork_know_it(project: Project) -> None:
    run = source(project)
    typed = (f"checkpoint.init_from={tail(run)}", "task.steps=3", "checkpoint.every=1 steps")
    typed += ("checkpoint.init_map={0: '0', net.1.bias: null}",)
    done = project.crown("task=train", "device.kind=cpu", *typed)
    assert done.returncode == 0, done.stdout
    assert "weights from" in done.stdout
    made = project.runs[-1]
    assert result(made)["start"] == pytest.approx(result(project.runs[0])["end"])
    done = project.crown("task=train", "device.kind=cpu", *typed, "resume=latest")
    assert "completed already" in done.stdout, done.stdout
    done = project.crown("task=train", "device.kind=cpu", *typed, "debug=true")
    assert done.returncode == 0, done.stdout
    assert "3 of 4 tensors" in done.stdout
    done = project.crown("fork", f"{made.name}@3", "task.steps=5")
    assert done.returncode == 0, done.stdout
    assert project.runs[-1] != made
    done = project.crown("fork", f"{made.name}@3", f"checkpoint.init_from={run}")
    assert done.returncode == 2
    assert "a fork begins with the whole state" in done.stdout


def test_killed_before_its_first_checkpoint_it_ends_as_if_it_had_not_been(project: Project) -> None:
    typed = ("task=train", "device.kind=cpu", f"checkpoint.init_from={tail(source(project))}")
    done = project.crown(*typed)
    assert done.returncode == 0, done.stdout
    straight = result(project.runs[-1])
    done = project.crown(*typed, "checkpoint.every=100 steps", "+task.kill=3")
    assert done.returncode != 0
    run = project.runs[-1]
    assert not list((run / "checkpoints").glob("*"))
    done = project.crown("resume", tail(run.name))
    assert done.returncode == 0, done.stdout
    assert result(run) == straight
