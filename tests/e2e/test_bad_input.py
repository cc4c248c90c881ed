"""Everything a user can get wrong about a run: one clear line, the right code, nothing half-written."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import crown_exp
from crown_exp.__main__ import guarded
from tests.running import Project, ends

TASKS = """
import torch
from torch import nn

class Few:
    def __init__(self, size: int = 3) -> None:
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return torch.ones(2) * index

def train(run, dataset, *, batch_size: int = 2, explode_at: int = 0):
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for batch in run.steps(run.batches(dataset, batch_size=batch_size), 10):
        loss = (batch @ weight).sum()
        run.backward(loss / 0 if run.step == explode_at else loss)
        run.update(optimizer)
    return {"w": weight.detach()}

def imported(run):
    return 1
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project.write(tmp_path, TASKS, train="batch_size: 2")
    (tmp_path / "conf/dataset").mkdir()
    (tmp_path / "conf/dataset/few.yaml").write_text("_target_: tasks.Few\nsize: 3\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr(sys, "path", list(sys.path))
        yield project
    sys.modules.pop("tasks", None)  # each test's tasks are its own


def refused(capfd: pytest.CaptureFixture[str], code: int, *arguments: str) -> tuple[str, list[str]]:
    """What a command says that ends with this code: its stderr, and its lines."""
    capfd.readouterr()
    assert guarded(arguments) == code, capfd.readouterr().err
    said = capfd.readouterr().err
    assert "Traceback" not in said
    return said, said.splitlines()


# --- before the run: one line, no run ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "code", "words"),
    [
        ({"CROWN_STORAGE__ROOT": "s4://bucket"}, 2, "CROWN_STORAGE__ROOT"),
        ({"CROWN_STORAGE__ROOT": "s3://me:hunter2hunter2@bucket"}, 2, "CROWN_STORAGE__ROOT"),
        ({"CROWN_STORAGE__ROOT": "nfs4://server/x"}, 2, "CROWN_STORAGE__ROOT"),
        ({"CROWN_STORAGE__ROOT": "/proc/nope"}, 80, "cannot write runs/"),
        ({"CROWN_STORAGE__ROOT": "/dev/null"}, 80, "cannot write runs/"),
        ({"CROWN_HOME": "{file}"}, 2, "CROWN_HOME"),
        ({"CROWN_STORAGE__ROTO": "x"}, 2, "did you mean CROWN_STORAGE__ROOT"),
        ({"CROWN_CONF": "/not/there"}, 2, "CROWN_CONF"),
    ],
)
def test_settings(
    project: Project, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str], code: int, words: str,
) -> None:  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(file=project.root / "tasks.py"))
    before = project.tree()
    said, lines = refused(capfd, code, "task=imported")
    assert len(lines) == 1, said
    assert words in said
    assert "hunter2" not in said
    assert project.tree() == before
    assert project.runs == []


def test_a_secret_is_never_printed(
    project: Project, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "f00dfacef00dfacef00dface")
    said, lines = refused(capfd, 2, "task=imported", "name=f00dfacef00dfacef00dface")
    assert "f00dface" not in said
    assert "WANDB_API_KEY" in said
    assert len(lines) == 1
    assert project.runs == []


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("device=cuda",), "device: cuda is not available on this machine; expected auto, cpu"),
        (
            ("device.precision=fp16",),
            "device.precision: fp16 is not available on this cpu; expected",
        ),
        (
            ("device.precision=tf32",),
            "device.precision: tf32 is not available on this cpu; expected",
        ),
        (("device.accumulate=0",), "device.accumulate"),
        (("limits.steps=-1",), "limits.steps"),
        (("seed=-1",), "seed"),
    ],
)
def test_what_this_machine_or_the_schema_does_not_allow(
    project: Project, capfd: pytest.CaptureFixture[str], overrides: tuple[str, ...], words: str
) -> None:
    said, lines = refused(capfd, 2, "task=imported", *overrides)
    assert words in said
    assert len(lines) == 1
    assert project.runs == []
    with pytest.raises(crown_exp.errors.ConfigError):
        crown_exp.start("task=imported", *overrides)
    assert project.runs == []


@pytest.mark.parametrize(
    ("environment", "overrides", "words"),
    [
        ({"CXX": "/nowhere/g++"}, ("device.compile=true",), "no C++ compiler (/nowhere/g++) is installed"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, (), "2 were started; start one, without"),
    ],
)  # fmt: skip
def test_what_the_environment_does_not_allow(
    project: Project, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str], overrides: tuple[str, ...], words: str,
) -> None:  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    said, lines = refused(capfd, 2, "task=imported", *overrides)
    assert words in said
    assert len(lines) == 1
    assert project.runs == []


# --- in the run: one line and its place, an end -----------------------------------------------------

FEW = ("task=train", "dataset=few")


@pytest.mark.parametrize(
    ("overrides", "code", "words"),
    [
        (("dataset.size=0",), 1, "dataset: Few holds no samples; check its path and its split"),
        (("task.batch_size=4",), 1, "batch_size=4 needs 4 samples a turn, the dataset has 3"),
        (("device.accumulate=2",), 1, "device.accumulate=2 needs the loop to go over the parts"),
        (("+task.explode_at=4",), 79, "in turn 4; the last good step is 3"),
    ],
)
def test_what_only_the_run_can_tell(
    project: Project, capfd: pytest.CaptureFixture[str],
    overrides: tuple[str, ...], code: int, words: str,
) -> None:  # fmt: skip
    said, lines = refused(capfd, code, *FEW, *overrides)
    assert sum(words in line for line in lines) == 1, said
    assert sum("  at " in line and "tasks.py:" in line for line in lines) == 1
    (run,) = project.runs
    assert ends(run) == [code]
    assert not (run / "result.json").exists()


def test_a_module_that_cannot_be_imported(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    (project.root / "tasks.py").write_text(TASKS + "\nraise RuntimeError('no licence')\n")
    assert guarded(["task=imported"]) == 1
    said = capfd.readouterr().err
    assert said.count("Traceback") == 1
    assert "RuntimeError: no licence" in said
    assert "crown_exp/" not in said
    (run,) = project.runs
    assert ends(run) == [1]


# --- the folder of a run ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("nothing", "has this id"),
        ("/nowhere/runs/r261122-k7f3q2", "no run in file:///nowhere has this id"),
        ("s4://bucket/runs/r261122-k7f3q2", "no store speaks s4://"),
        ("/nowhere/runs/..", "expected an id, or the folder of a run: <store>/runs/<id>"),
    ],
)
def test_a_folder_that_is_no_run_s(
    project: Project, capfd: pytest.CaptureFixture[str], folder: str, words: str
) -> None:
    said, lines = refused(capfd, 2, "run", folder)
    assert words in said
    assert len(lines) == 1
