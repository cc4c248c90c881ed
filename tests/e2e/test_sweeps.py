"""-m: one run after the other, each as if alone in a fresh process; and when several are refused."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from typing import Any

import pytest

QUICK = "+experiment=quick"


def cells(said: Any) -> list[list[str]]:
    return [line.split() for line in said.lines]


def test_runs_follow_each_other_in_fresh_processes_with_real_results(crown: Any) -> None:
    said = crown("-m", QUICK, "task.gain=1,2", "env=small,large")
    assert said.code == 0
    runs = crown.runs()
    assert [run["name"] for run in runs] == [
        "quick gain=1 env=small", "quick gain=1 env=large", "quick gain=2 env=small", "quick gain=2 env=large",
    ]  # fmt: skip
    assert [run["sweep"]["number"] for run in runs] == [1, 2, 3, 4]
    assert {(run["sweep"]["of"], run["sweep"]["id"]) for run in runs} == {
        (4, runs[0]["sweep"]["id"])
    }
    results = crown.results()
    assert [(result["gain"], result["size"]) for result in results.values()] == [
        (1, 1), (1, 100), (2, 1), (2, 100),
    ]  # fmt: skip
    pids = {result["pid"] for result in results.values()}
    assert len(pids) == 4 and os.getpid() not in pids
    assert ["4", runs[3]["id"], "quick", "gain=2", "env=large", "completed", "2", "100"] in [
        row[:8] for row in cells(said)
    ]
    assert said.lines[-1] == (
        "next    python -m crown_exp -m +experiment=quick task.gain=1,2 env=small,large seed=1,2,3"
    )


def test_a_job_that_raises_or_exits_hides_no_other(crown: Any) -> None:
    said = crown("-m", QUICK, "task.fail=raise,exit,''", "task.gain=5")
    assert said.code == 1
    rows = [row for row in cells(said) if row[:1] in (["1"], ["2"], ["3"])]
    assert ["failed" in row for row in rows] == [True, True, False]
    assert "completed" in rows[2]
    assert "run 1: ValueError: no good" in said.lines
    assert "run 2: the task called sys.exit(3)" in said.lines
    assert [result["gain"] for result in crown.results().values()] == [5]
    assert said.lines[-1].startswith(
        "next    python -m crown_exp +experiment=quick task.fail=raise task.gain=5   # the first that failed"
    )


def test_nothing_starts_if_any_job_is_wrong(crown: Any) -> None:
    said = crown("-m", QUICK, "task.gain=1,much", "env=small,lrge,large", "env.size=1,x")
    assert said.code == 2
    assert crown.runs() == []
    assert said.lines == [
        "env=lrge: group env has no option 'lrge'; did you mean large? (conf/env/)",
    ]
    said = crown("-m", QUICK, "task.gain=1,much", "env.size=1,x")
    assert [line.partition(":")[0] for line in said.lines] == ["env.size", "task.gain"]
    assert crown.runs() == []


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=1,2"],
        ["seed=choice(1,2)"],
        ["seed=range(1,4)"],
        ["env=glob(*)"],
        ["seed=1,2", "hydra.sweeper.max_batch_size=1"],
        ["seed=1,2", "hydra/sweeper=basic"],
        ["seed=1,2", "hydra/sweeper=basic", "hydra.sweeper.max_batch_size=1"],
        ["seed=1,2", "hydra/launcher=basic"],
        ["seed=interval(1,2)"],
    ],
    ids=" ".join,
)
def test_several_jobs_without_m_are_refused_before_the_first(
    crown: Any, overrides: list[str]
) -> None:
    said = crown(QUICK, *overrides)
    assert said.code == 2
    assert len(said.lines) == 1
    assert "nothing was started: add -m" in said.lines[0]
    assert not (crown.root / ".crown").exists()


def test_one_job_needs_no_m_and_no_process(crown: Any) -> None:
    assert crown(QUICK, "seed=choice(3)").code == 0
    assert crown("-m", QUICK, "task.gain=4").code == 0
    results = crown.results()
    assert {result["pid"] for result in results.values()} == {os.getpid()}
    assert [run["sweep"] for run in crown.runs()] == [None, None]
    assert [run["seed"] for run in crown.runs()] == [3, 0]


@pytest.mark.parametrize("sweeper", ["crown", "basic"])
def test_the_size_of_a_batch_changes_nothing(crown: Any, sweeper: str) -> None:
    batches = ["hydra.sweeper.max_batch_size=1", f"hydra/sweeper={sweeper}"]
    assert crown("-m", QUICK, "task.gain=1,2", *batches).code == 0
    runs = crown.runs()
    assert [(run["name"], run["sweep"]["number"]) for run in runs] == [
        ("quick gain=1", 1), ("quick gain=2", 2),
    ]  # fmt: skip
    assert runs[0]["sweep"]["id"] == runs[1]["sweep"]["id"]


def test_a_bad_run_of_a_later_batch_keeps_the_first_from_starting(crown: Any) -> None:
    said = crown("-m", QUICK, "task.gain=1,x", "hydra.sweeper.max_batch_size=1")
    assert said.code == 2
    assert not crown.runs()


def test_a_grid_may_stand_in_a_file(crown: Any) -> None:
    crown.write(
        "conf/experiment/grid.yaml",
        "# @package _global_\ndefaults:\n  - /env: small\n  - override /task: quick\n"
        "hydra:\n  sweeper:\n    params:\n      task.gain: 7,8\n",
    )
    assert crown("-m", "+experiment=grid").code == 0
    assert [result["gain"] for result in crown.results().values()] == [7, 8]
    assert crown("+experiment=grid").code == 0  # without -m it is no sweep, as in Hydra
    assert crown.runs()[-1]["sweep"] is None


@pytest.mark.parametrize(
    ("swept", "expected"),
    [
        ("seed=range(1,1)", "this sweep: has no point: one of its ranges or globs is empty"),
        ("seed=interval(0,1)", "seed=interval(0,1): a grid needs single values"),
        (
            "hydra.verbose=true,false",
            "config: Sweeping over Hydra's configuration is not supported",
        ),
        (
            "hydra.sweeper.max_batch_size=0",
            "hydra.sweeper.max_batch_size: expected an int > 0, or null",
        ),
        ("optimzer=adamw,sgd", "optimzer=adamw: no such key or group; did you mean optimizer?"),
        ("optimizer.lrr=1,2", "optimizer.lrr: no such key; did you mean lr?"),
    ],
)
def test_what_is_no_sweep(crown: Any, swept: str, expected: str) -> None:
    said = crown("-m", QUICK, swept)
    assert said.code == 2
    assert len(said.lines) == 1
    assert said.lines[0].startswith(expected)
    assert crown.runs() == []


def test_values_with_commas_quotes_and_accents_arrive_as_they_are(crown: Any) -> None:
    assert crown("-m", QUICK, "task.text='a,b',\"c 'd'\",'ü=1'").code == 0
    assert [result["text"] for result in crown.results().values()] == ["a,b", "c 'd'", "ü=1"]


def test_interpolations_are_resolved_in_each_job(crown: Any) -> None:
    assert crown("-m", QUICK, "task.gain=${env.size}", "env=small,large").code == 0
    assert [result["gain"] for result in crown.results().values()] == [1, 100]
    assert crown.runs()[0]["overrides"][1] == "task.gain=${env.size}"


# --- Hydra's own parts ----------------------------------------------------------------------------------

NOTING = ["+hydra.callbacks.noting._target_=their_callbacks.Noting"]


def seen() -> list[Any]:
    noted: list[Any] = sys.modules["their_callbacks"].SEEN
    return noted


def test_a_users_callbacks_see_a_single_run(crown: Any) -> None:
    assert crown(QUICK, *NOTING, "task.gain=2").code == 0
    assert seen() == ["run_start", "job_start 0", ("COMPLETED", 2), "run_end"]


def test_a_users_callbacks_see_a_sweep_with_what_its_jobs_returned(crown: Any) -> None:
    assert crown("-m", QUICK, *NOTING, "task.gain=2,3", "task.fail='',raise").code == 1
    failed = [run["id"] for run in crown.runs() if "raise" in run["name"]]
    assert seen() == [
        "multirun_start",
        "job_start 0", ("COMPLETED", 2),
        "job_start 1", ("FAILED", f"{failed[0]}: ValueError: no good"),
        "job_start 2", ("COMPLETED", 3),
        "job_start 3", ("FAILED", f"{failed[1]}: ValueError: no good"),
        "multirun_end",
    ]  # fmt: skip


def test_variables_that_hydra_sets_reach_the_run(crown: Any) -> None:
    variable = "+hydra.job.env_set.MY_VARIABLE=mine"
    assert crown(QUICK, variable).code == 0
    assert crown("-m", QUICK, variable, "seed=1,2").code == 0
    assert {result["variable"] for result in crown.results().values()} == {"mine"}
    assert "MY_VARIABLE" not in os.environ


@pytest.mark.parametrize("sweeper", ["crown", "basic"])
def test_hydras_basic_launcher_runs_our_tasks(crown: Any, sweeper: str) -> None:
    chosen = ["hydra/launcher=basic", f"hydra/sweeper={sweeper}"]
    assert crown("-m", QUICK, "task.gain=1,2", *chosen).code == 0
    assert [result["gain"] for result in crown.results().values()] == [1, 2]
    assert {result["pid"] for result in crown.results().values()} == {os.getpid()}
    said = crown("-m", QUICK, "task.fail='',raise", *chosen)
    assert said.code == 1
    assert "run 2: ValueError: no good" in said.lines
    assert {path.name for path in crown.root.iterdir()} <= {
        ".crown", "conf", "pyproject.toml", "their_tasks.py", "their_callbacks.py", "__pycache__",
    }  # fmt: skip


def test_hydras_basic_launcher_runs_a_single_run(crown: Any) -> None:
    assert crown(QUICK, "hydra/launcher=basic").code == 0
    assert crown(QUICK, "hydra/launcher=basic", "task.fail=diverge").code == 79
    assert [run["sweep"] for run in crown.runs()] == [None, None]


@pytest.mark.skipif(not importlib.util.find_spec("submitit"), reason="hydra-submitit-launcher")
def test_a_launcher_with_workers_of_its_own_runs_our_tasks(crown: Any) -> None:
    said = crown(
        "-m", QUICK, "task.gain=1,2", "task.fail='',raise", "hydra/launcher=submitit_local"
    )
    assert said.code == 1
    results = crown.results()
    assert sorted(result["gain"] for result in results.values()) == [1, 2]
    assert os.getpid() not in {result["pid"] for result in results.values()}
    assert [row[-1] for row in cells(said) if row[:2] in (["2", "-"], ["4", "-"])] == [
        "failed",
        "failed",
    ]
    assert any(
        line.endswith("ValueError: no good") for line in said.lines if line.startswith("run 4:")
    )
    assert {path.name for path in crown.root.iterdir()} <= {
        ".crown", "conf", "pyproject.toml", "their_tasks.py", "their_callbacks.py", "__pycache__",
    }  # fmt: skip


# --- stopping -------------------------------------------------------------------------------------------


def test_ctrl_c_ends_a_sweep_and_starts_no_further_run(crown: Any) -> None:
    said = crown.interrupt("-m", "task=slow", "task.n=1,2,3", began="began-1")
    assert said.code == 130
    assert "Traceback" not in said.err
    assert [run["name"] for run in crown.runs()] == ["slow n=1"]
    assert [row[-1] for row in cells(said) if row[:1] == ["1"]] == ["stopped"]
    assert said.lines[-1] == (
        "next    stopped with 0 of 3 runs completed; again: python -m crown_exp -m task=slow task.n=1,2,3"
    )
    assert not (crown.root / "began-2").exists()


def test_a_sweep_that_is_terminated_passes_it_on(crown: Any) -> None:
    said = crown.stop(
        "-m", "task=slow", "task.n=1,2", began="began-1", with_signal=signal.SIGTERM, group=False
    )
    assert said.code == 75
    assert [run["name"] for run in crown.runs()] == ["slow n=1"]
    assert [row[-1] for row in cells(said) if row[:1] == ["1"]] == ["preempted"]
