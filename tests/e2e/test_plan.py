"""`plan`: what a command would do and what it costs; and what has to be agreed to before it is done."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crown_exp.compute.money import in_dollars
from tests.running import Project
from tests.sky_project import executor_of, sky_project, state_of

QUICK = "+experiment=quick"
TRAIN = """
def train(run, *, lr: float = 0.1):
    return {"lr": lr}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose targets `there` and `on_demand` are SkyPilot's stand-in."""
    with sky_project(tmp_path_factory.mktemp("plan") / "theirs", TRAIN) as made:
        yield made


def nothing_happened(project: Project) -> bool:
    """Neither a run nor a job."""
    with executor_of(project) as executor:
        return project.runs == [] and list(executor.jobs()) == []


# --- here -----------------------------------------------------------------------------------------------


def test_a_plan_of_what_runs_here(crown: Any) -> None:
    said = crown("plan", QUICK)
    assert said.code == 0
    assert said.out.splitlines()[1].split() == [
        "1",
        "quick",
        "new",
        "local",
        "this",
        "one",
        "-",
        "?",
        "-",
    ]
    assert "here        1 run needs this machine awake to the end" in said.out
    assert (said.err, crown.runs()) == ("", [])
    assert crown(QUICK, "task.gain=2").code == 0
    again = crown("plan", QUICK)
    assert again.out.splitlines()[1].split()[-3:] == ["-", "0.00", "-"]
    assert len(crown.runs()) == 1


def test_a_plan_of_a_sweep_numbers_its_runs_whatever_its_batches(crown: Any) -> None:
    said = crown("plan", "-m", QUICK, "task.gain=1,2,3", "hydra.sweeper.max_batch_size=2")
    assert said.code == 0
    rows = [line.split() for line in said.out.splitlines() if " new " in line]
    assert [row[1:4] for row in rows] == [["quick", f"gain={n}", "new"] for n in (1, 2, 3)]
    assert crown.runs() == []


@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_no_callback_is_told_of_a_plan(crown: Any, flags: list[str]) -> None:
    noting = "+hydra.callbacks.noting._target_=their_callbacks.Noting"
    assert crown("plan", *flags, QUICK, "seed=1,2" if flags else "seed=1", noting).code == 0
    assert not getattr(sys.modules.get("their_callbacks"), "SEEN", [])
    assert crown.runs() == []


def test_what_is_wrong_with_a_command_is_wrong_with_its_plan(crown: Any) -> None:
    said = crown("plan", "-m", QUICK, "task.gain=1,x", "task.turns=1,y")
    assert said.code == 2
    assert {line.partition(":")[0] for line in said.lines} == {"task.gain", "task.turns"}
    assert said.out == ""
    said = crown("plan", "-m", QUICK, "task.gian=1,2")
    assert said.lines == ["task.gian: no such key; did you mean gain? (their_tasks.py:12)"]


@pytest.mark.parametrize("flags", [[], ["-m"]])
@pytest.mark.parametrize("group", ["launcher", "sweeper"])
def test_only_our_own_launcher_and_sweeper_can_plan(
    crown: Any, flags: list[str], group: str
) -> None:
    said = crown("plan", *flags, QUICK, f"hydra/{group}=basic")
    assert (said.code, said.lines) == (2, [f"plan: needs hydra/{group}=crown, the default"])
    assert crown.runs() == []


def test_the_page_of_the_word(crown: Any) -> None:
    page = crown("help", "plan")
    for typed in (["plan"], ["plan", "--help"], ["plan", QUICK, "--help"]):
        said = crown(*typed)
        assert (said.code, said.out) == (0, page.out)
    assert crown.runs() == []


@pytest.mark.parametrize(
    "typed", [["--yes", QUICK], [QUICK, "--yes"], ["-m", QUICK, "--yes", "seed=1"]]
)
def test_yes_stands_anywhere_on_the_line_and_harms_nothing(crown: Any, typed: list[str]) -> None:
    assert crown(*typed).code == 0
    assert crown("plan", *typed).code == 0
    assert len(crown.runs()) == 1


def test_a_plan_of_a_run_that_goes_on(crown: Any) -> None:
    assert crown(QUICK, "task.fail=interrupt").code == 130
    (run,) = crown.runs()
    said = crown("plan", f"resume={run['id']}")
    assert said.code == 0
    assert said.out.splitlines()[1].split()[:5] == ["1", run["id"], "quick", "to", "resume"]
    assert len(crown.read("attempts/*.end.json")) == 1
    assert crown("plan", "-m", f"resume={run['id']}").code == 2
    assert crown(QUICK).code == 0
    done = crown.runs()[-1]["id"]
    assert crown("plan", f"resume={done}").out == f"nothing: {done} is over already\n"


def test_a_plan_for_machines(crown: Any) -> None:
    said = crown("plan", "-m", QUICK, "task.gain=1,2", "--json", "budget.run_usd=5")
    assert (said.code, said.err, said.out.count("\n")) == (0, "", 1)
    told = json.loads(said.out)
    assert [(it["number"], it["fate"], it["run"]) for it in told["runs"]] == [
        (1, "new", None),
        (2, "new", None),
    ]
    assert told["runs"][1]["overrides"] == [QUICK, "task.gain=2", "budget.run_usd=5"]
    assert told["runs"][0]["candidates"] == told["refused"] == []
    assert (told["usd"], told["controller"]) == (0.0, None)
    assert crown.runs() == []


GITHUB = "ghp_" + "a1B2c3D4" * 5


@pytest.mark.parametrize("flags", [["plan"], ["plan", "--json"], ["plan", "-m"], [], ["-m"]])
def test_no_command_tells_a_secret_that_was_typed(crown: Any, flags: list[str]) -> None:
    others = ",two" if "-m" in flags else ""
    said = crown(*flags, QUICK, f"task.text={GITHUB}{others}", "name=null")
    assert said.code == 2
    assert said.err.startswith("task.text: looks like a secret (it is shaped like a GitHub token)")
    assert GITHUB[:8] not in said.out + said.err
    if flags[1:] == ["--json"]:
        (run,) = json.loads(said.out)["runs"]
        assert run["overrides"] == [QUICK, "task.text=***", "name=null"]
    elif flags[1:] == ["-m"]:
        assert said.out.splitlines()[1].split()[1:4] == ["quick", "text=***", "new"]
    assert crown.runs() == []


@pytest.mark.parametrize("key", ["task", "task.gain", "checkpoint.init_from"])
def test_a_secret_where_it_makes_no_sense_is_not_told_either(crown: Any, key: str) -> None:
    said = crown(QUICK, f"{key}={GITHUB}")
    assert said.code == 2
    assert said.err.startswith(key)
    assert "***" in said.err and GITHUB[:8] not in said.out + said.err


def test_a_secret_of_the_environment_is_told_by_no_error(
    crown: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "my-own-value-123")
    said = crown("task=my-own-value-123")
    assert said.code == 2
    assert "task=***: " in said.err and "my-own" not in said.err


def test_json_is_for_plans(crown: Any) -> None:
    said = crown(QUICK, "--json")
    assert said.code == 2
    assert said.lines == ["--json: goes with crown-exp plan, which tells what a command would do"]
    assert crown.runs() == []


def test_a_plan_for_machines_of_what_is_over(crown: Any) -> None:
    assert crown(QUICK).code == 0
    (run,) = crown.runs()
    said = crown("plan", f"resume={run['id']}", "--json")
    assert (said.code, json.loads(said.out)["runs"]) == (0, [])
    assert said.err == f"nothing: {run['id']} is over already\n"


# --- elsewhere ------------------------------------------------------------------------------------------


def test_a_plan_of_a_sweep_over_targets(project: Project) -> None:
    done = project.crown("plan", "-m", "task=train", "lr=1", "compute=there,local")
    assert done.returncode == 2  # no such key
    typed = ["task=train", "task.lr=1e-3,3e-4", "compute=there,on_demand,local", "budget.run_usd=5"]
    done = project.crown("plan", "-m", *typed, env={"COLUMNS": "120"})
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[1].split()[:6] == ["1", "train", "lr=0.001", "compute=there", "new", "there"]
    assert [line.split()[0] for line in lines[1:7]] == list("123456")
    assert "there: tried in this order" in lines
    assert "on_demand: tried in this order" in lines
    assert "  1  A100:1  gcp us-central1   a2-highgpu-1g  spot  $1.15/h" in lines
    assert "expected    unknown; $9.64/h while all run at once" in lines
    assert "caps        budget.run_usd=5: reached after 1.36 h at $3.67/h" in lines
    assert "elsewhere   4 runs go on when this machine is off" in done.stdout
    assert nothing_happened(project)


def test_prices_are_told_of_what_cannot_be_launched_yet(project: Project) -> None:
    typed = ["-m", "task=train", "task.lr=1,2", "compute=there", "compute.shared=false"]
    done = project.crown("plan", *typed)
    assert done.returncode == 2
    assert "expected    unknown; $2.30/h while all run at once" in done.stdout
    assert "machines of compute=there do not see this machine's files" in done.stdout
    assert nothing_happened(project)
    wrong = project.crown("plan", "task=train", "compute=there", "compute.accelerators=[A1000:1]")
    assert wrong.returncode == 2
    assert "no machine is known that it could be given" in wrong.stdout
    assert "cost        unknown: no machine is known for 1 run" in wrong.stdout
    assert "refused     nothing of it would be launched; why is told below" in wrong.stdout
    assert "come back" not in wrong.stdout
    assert "did you mean A100" in wrong.stdout


def test_machines_are_told_what_keeps_a_plan_from_being_launched(project: Project) -> None:
    typed = ["task=train", "compute=there", "--json"]
    capped = project.crown("plan", *typed, "budget.run_usd=0.5")
    assert capped.returncode == 77
    told = plan_in(capped.stdout)
    assert [it["usd_per_hour"] for it in told["runs"][0]["candidates"]] == [1.15, 1.25]
    assert told["runs"][0] | {"candidates": []} == {
        "number": 1, "name": "train", "experiment": None, "overrides": [*typed[:2], "budget.run_usd=0.5"],
        "fate": "new", "run": None, "target": "there", "executor": "skypilot", "candidates": [],
        "hours": None, "hours_from": 0, "done": None, "usd": None,
    }  # fmt: skip
    assert told["caps"]["run_usd"] | {"hours": None} == {
        "usd": 0.5, "spent": 0.0, "left": 0.5, "hours": None,
    }  # fmt: skip
    assert (told["usd"], told["usd_per_hour"], told["caps"]["month_usd"]) == (None, 1.15, None)
    assert told["refused"] == [capped.stdout.splitlines()[-1]]
    unseen = project.crown("plan", *typed, "compute.shared=false")
    assert unseen.returncode == 2
    (why,) = plan_in(unseen.stdout)["refused"]
    assert "do not see this machine's files" in why
    assert nothing_happened(project)


def plan_in(said: str) -> Any:
    """The plan among what was printed on both streams."""
    return json.loads(next(line for line in said.splitlines() if line.startswith("{")))


@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_nobody_is_there_to_be_asked(project: Project, flags: list[str]) -> None:
    done = project.crown(*flags, "task=train", "compute=there")
    assert done.returncode == 2
    assert "there: tried in this order" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(
        "budget.confirm_above_usd: what it will cost is "
    )
    assert "type --yes to launch" in done.stdout
    assert nothing_happened(project)


def test_a_free_cluster_before_paid_machines_has_to_be_agreed_to(project: Project) -> None:
    enabled = state_of(project) / "enabled"
    enabled.parent.mkdir(exist_ok=True)
    enabled.write_text("kubernetes gcp")
    try:
        done = project.crown("task=train", "compute=there")
    finally:
        enabled.unlink()
    assert done.returncode == 2
    assert "or else     1 run on machines for $1.15 to $1.25/h" in done.stdout
    assert "type --yes to launch" in done.stdout.splitlines()[-1]
    assert nothing_happened(project)


@pytest.mark.parametrize("flags", [[], ["--yes"]])
def test_a_cap_below_the_price_of_one_hour(project: Project, flags: list[str]) -> None:
    done = project.crown(*flags, "task=train", "compute=there", "budget.run_usd=0.5")
    assert done.returncode == 77
    assert done.stdout.splitlines()[-1] == (
        "budget.run_usd=0.5 is below the price of one hour: the cheapest machine of compute=there is "
        "$1.15/h; type budget.run_usd=2 or more, or choose a cheaper compute; nothing was launched"
    )
    assert nothing_happened(project)


def test_a_launch_that_is_agreed_to_and_the_plan_of_more(tmp_path: Path) -> None:
    with sky_project(tmp_path / "theirs", TRAIN) as project:
        done = project.crown("-m", "task=train", "seed=1,2", "compute=there", "--yes")
        assert done.returncode == 0
        assert "there: tried in this order" in done.stdout
        ids = {run.name for run in project.runs}
        assert len(ids) == 2
        again = project.crown("plan", "-m", "task=train", "seed=1,2,3", "compute=there")
        assert again.returncode == 0
        rows = [line.split() for line in again.stdout.splitlines()[1:4]]
        assert {row[1] for row in rows[:2]} == ids
        assert ["done" in row for row in rows] == [True, True, False]
        assert "h: the median of 2 earlier runs of tasks.train" in again.stdout
        other = project.crown("plan", "task=train", "compute=on_demand")  # the same accelerators
        assert "h: the median of 2 earlier runs of tasks.train" in other.stdout
        told = plan_in(project.crown("plan", "task=train", "compute=on_demand", "--json").stdout)
        assert told["usd"] == pytest.approx(3.67 * told["runs"][0]["hours"], rel=0.01)
        assert f"expected    {in_dollars(told['usd'])}" in other.stdout
        assert {run.name for run in project.runs} == ids
