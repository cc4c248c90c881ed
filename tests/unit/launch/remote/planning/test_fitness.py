"""What keeps a run from being launched elsewhere: all of it at once, before anything is started."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crown_exp.compute.base import ExecutorError, Target
from crown_exp.config import schema
from crown_exp.config.check import Checked
from crown_exp.config.compose import Composition
from crown_exp.config.project import find_project
from crown_exp.config.targets import Target as Function
from crown_exp.errors import Problem
from crown_exp.launch.remote.executors import Executors, executors_of
from crown_exp.launch.remote.planning.fitness import elsewhere_problems, remote_problems
from crown_exp.launch.session import Session, open_session
from crown_exp.launch.submit import Order

SKY = {"name": "a100", "executor": "skypilot", "accelerators": ["A100:1"]}
SPOT = SKY | {"spot": True}
SHARED = {"name": "cluster", "executor": "slurm", "shared": True}


def order(compute: dict[str, Any] = SKY, **changes: Any) -> Order:
    tree = schema.defaults() | {"task": {"_target_": "m.train"}}
    tree["compute"] = tree["compute"] | compute
    for key, value in changes.items():
        tree[key] = tree.get(key, {}) | value if isinstance(value, dict) else value
    checked = Checked(Function("m.train", "function"), (), whole=False)
    return Order(Composition(tree, {}, ()), checked)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import os

    for name in os.environ:
        if name.startswith(("AWS_", "CROWN_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    root = tmp_path / "project"
    root.mkdir()
    (root / "pyproject.toml").write_text("[tool.crown_exp]\n")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setenv("CROWN_STORAGE__ROOT", "s3://bucket/here")
    with open_session(find_project(Path.cwd())) as opened:
        yield opened


def told(session: Session, asked: Order) -> list[str]:
    from crown_exp.compute.target import target_of

    target = target_of(asked.composition.config["compute"])
    return [str(problem) for problem in remote_problems(session, asked, target)]


@pytest.mark.parametrize("compute", [SKY, SPOT, SHARED])
def test_nothing_is_wrong_with_a_sound_run(session: Session, compute: dict[str, Any]) -> None:
    assert told(session, order(compute)) == []


# --- the store ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("store", "compute", "expected"),
    [
        ("STORE", SKY, "machines of compute=a100 do not see this machine's files; "
         "set CROWN_STORAGE__ROOT=s3://bucket/prefix, or compute.shared=true if they do see them"),
        ("STORE", SPOT, "machines of compute=a100 do not see this machine's files; a spot machine takes "
         "its checkpoints with it; set CROWN_STORAGE__ROOT=s3://bucket/prefix, or compute.shared=true "
         "if they do see them"),
        ("STORE", SHARED, ""),
        ("memory://x", SHARED, "only this process sees it, no job of compute=cluster does; "
         "set CROWN_STORAGE__ROOT=s3://bucket/prefix"),
    ],
)  # fmt: skip
def test_a_store_that_no_job_reaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str, compute: dict[str, Any], expected: str
) -> None:  # fmt: skip
    monkeypatch.setenv("CROWN_STORAGE__ROOT", store.replace("STORE", str(tmp_path / "store")))
    with open_session(None) as session:
        line = f"the store {session.blobs.url}: {expected}"
        assert told(session, order(compute)) == ([line] if expected else [])


@pytest.mark.parametrize("variable", ["CROWN_STORAGE__ENDPOINT", "AWS_ENDPOINT_URL"])
@pytest.mark.parametrize(
    ("endpoint", "reached"),
    [
        ("http://127.0.0.1:9000", False), ("http://localhost:9000", False), ("http://[::1]:9000", False),
        ("http://10.1.2.3:9000", True), ("https://minio.example.org", True),
    ],
)  # fmt: skip
def test_an_endpoint_that_is_each_machine_itself(
    monkeypatch: pytest.MonkeyPatch, variable: str, endpoint: str, reached: bool
) -> None:
    monkeypatch.setenv("CROWN_STORAGE__ROOT", "s3://bucket")
    monkeypatch.setenv(variable, endpoint)
    with open_session(None) as session:
        assert told(session, order(SHARED)) == []
        found = told(session, order())
    if reached:
        assert found == []
    else:
        (line,) = found
        assert line.startswith(f"CROWN_STORAGE__ENDPOINT: {endpoint} is each machine itself, so no")
        assert "compute.shared=true" in line


# --- checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "steps", "expected"),
    [
        ("auto", None, ""),
        ("10 steps", 100, ""),
        ("2 hours", None, ""),
        ("1000000 steps", None, ""),
        ("3 hours", None, "'3 hours' is longer than a machine lives (2 hours, checkpoint.mtbf)"),
        ("100 steps", 100, "'100 steps' is no sooner than the end of the run (limits.steps=100)"),
        ("1000000000 steps", None, "'1000000000 steps' never comes"),
    ],
)
def test_saves_that_come_too_late_for_spot(
    session: Session, every: str, steps: int | None, expected: str
) -> None:
    changes = {"checkpoint": {"every": every}, "limits": {"steps": steps}}
    end = "and a spot machine is taken back without asking; type checkpoint.every=auto, or leave spot out"
    line = f"checkpoint.every: {expected}, {end}"
    assert told(session, order(SPOT, **changes)) == ([line] if expected else [])
    assert told(session, order(SKY, **changes)) == []


def test_an_interval_that_is_none_is_told(session: Session) -> None:
    (line,) = told(session, order(SPOT, checkpoint={"every": "often"}))
    assert line.startswith("checkpoint.every: expected")


# --- device, secrets, debug -----------------------------------------------------------------------


def test_a_device_that_is_not_there(session: Session) -> None:
    none = {"name": "cpu", "executor": "skypilot"}
    assert told(session, order(device={"kind": "mps"})) == [
        "device.kind: only a Mac has mps, and compute=a100 is none; type device.kind=auto"
    ]
    assert told(session, order(none, device={"kind": "cuda"})) == [
        "device.kind: compute=cpu asks for no GPU; type compute.accelerators=[A100:1], or device.kind=auto"
    ]
    for compute in (SKY, SHARED | {"partition": "gpu"}):
        assert told(session, order(compute, device={"kind": "cuda"})) == []


def test_each_secret_that_is_not_set_is_named(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERE_TOKEN", "a value of mine")
    compute = SKY | {"secrets": ["ONE_TOKEN", "HERE_TOKEN", "TWO_TOKEN"]}
    assert told(session, order(compute)) == [
        f"compute.secrets: {name} is not set here; export it, or put {name}=... into the project's .env"
        for name in ("ONE_TOKEN", "TWO_TOKEN")
    ]


def test_a_debug_run_is_for_here(session: Session) -> None:
    assert told(session, order(debug=True)) == [
        "debug=true: runs here, where you can look at it: type compute=local, not a100"
    ]


# --- who carries it out ---------------------------------------------------------------------------


class Asked:
    """Answers for an executor, and keeps what it was asked."""

    def __init__(self, *answers: Problem | ExecutorError) -> None:
        self.answers, self.targets = answers, list[Target]()

    def problems(self, target: Target) -> Sequence[Problem]:
        self.targets.append(target)
        for answer in self.answers:
            if isinstance(answer, ExecutorError):
                raise answer
        return [answer for answer in self.answers if isinstance(answer, Problem)]

    def close(self) -> None: ...


def asking(session: Session, *answers: Problem | ExecutorError) -> Asked:
    made = Asked(*answers)
    door: Any = made
    session.executors = Executors({"skypilot": lambda: door, "slurm": lambda: door})
    return made


def test_an_executor_is_asked_once_for_each_target(session: Session) -> None:
    asked = asking(session, Problem("compute.accelerators", "no cloud sells it"))
    orders = [order(compute, task={"n": n}) for n in range(3) for compute in (SKY, SPOT, SHARED)]
    found = elsewhere_problems(session, [order({"executor": "local"}), *orders])
    assert [(target.name, target.spot) for target in asked.targets] == [
        ("a100", False),
        ("a100", True),
        ("cluster", False),
    ]
    assert [problem.where for problem in found] == ["compute.accelerators"] * 3


def test_all_is_told_at_once(session: Session) -> None:
    asking(session, Problem("compute", "SkyPilot is not installed"))
    bad = order(SKY | {"secrets": ["A_TOKEN"]}, device={"kind": "mps"})
    wrong = order(SKY | {"infra": ["awz"], "start_deadline": "soon"})
    found = elsewhere_problems(session, [bad, wrong])
    assert [problem.where for problem in found] == [
        "device.kind", "compute.secrets", "compute.start_deadline", "compute.infra", "compute",
    ]  # fmt: skip


def test_an_executor_that_does_not_answer_is_an_error_of_its_own(session: Session) -> None:
    asking(session, ExecutorError("SkyPilot's API server does not answer"))
    with pytest.raises(ExecutorError, match="does not answer"):
        elsewhere_problems(session, [order()])


def test_without_skypilot_one_line_says_what_to_install(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python in which there is none, asked for real."""
    package = tmp_path / "none/sky"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('No module named sky')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "none"))
    with executors_of(session.settings) as executors:
        session.executors = executors
        (problem,) = elsewhere_problems(session, [order(), order(SKY | {"nodes": 1})])
    assert str(problem).startswith("compute: SkyPilot is not installed")
    assert str(problem).endswith("type: pip install 'crown-exp[sky]'")
    assert "\n" not in str(problem)


def test_a_path_that_is_refused_is_told_without_a_secret_in_it(session: Session) -> None:
    folder = Path.cwd().parent / ("ghp_" + "a1B2c3D4" * 5)
    folder.mkdir()
    (folder / "data.bin").write_text("x")
    asked = order(SKY, task={"path": str(folder / "data.bin")})
    told = [str(it) for it in elsewhere_problems(session, [asked]) if it.where == "task.path"]
    assert len(told) == 1 and folder.name not in told[0] and "/***" in told[0]


def test_variables_that_hydra_sets_travel_but_for_secrets(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.secrets["SOME_API_KEY"] = "value-of-mine-1"
    fine = {"OMP_NUM_THREADS": "4", "TOKENIZERS_PARALLELISM": "false", "HF_HOME": "/data/hf"}
    assert told(session, replace(order(), env=fine)) == []
    env = {"HF_TOKEN": "s3cret-of-hub", "MINE": "value-of-mine-1", "CROWN_HOME": "/x", "a b": "1"}
    said = told(session, replace(order(), env=env))
    assert [line.partition(": ")[0] for line in said] == ["hydra.job.env_set"] * 4
    assert sum("compute.secrets=[HF_TOKEN]" in line for line in said) == 1
    assert sum("compute.secrets=[MINE]" in line for line in said) == 1
    assert sum("CROWN_HOME is set by crown_exp itself" in line for line in said) == 1
    assert not any(value in line for value in ("s3cret", "value-of-mine") for line in said)
