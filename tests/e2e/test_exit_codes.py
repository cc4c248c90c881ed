"""How a command ended, as the shell and an executor see it."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

import pytest

QUICK = "+experiment=quick"


@pytest.mark.parametrize(
    ("fail", "code", "state"),
    [("", 0, "completed"), ("raise", 1, "failed"), ("exit", 1, "failed"), ("memory", 78, "failed"),
     ("diverge", 79, "failed"), ("interrupt", 130, "stopped")],
)  # fmt: skip
def test_a_runs_own_code_reaches_the_shell(crown: Any, fail: str, code: int, state: str) -> None:
    said = crown(QUICK, f"task.fail='{fail}'")
    assert said.code == code
    run = crown.runs()[0]["id"]
    assert any(line.startswith(f"{run} {state} after 0 steps") for line in said.lines)


def test_the_tasks_own_traceback_is_shown_and_ours_is_not(crown: Any) -> None:
    said = crown(QUICK, "task.fail=raise")
    assert "ValueError: no good" in said.lines
    assert 'raise ValueError("no good")' in said.err
    assert "/crown_exp/" not in said.err.replace(str(crown.root), "")
    assert "hydra" not in said.err.lower()


def test_a_mistake_makes_no_run(crown: Any) -> None:
    said = crown(QUICK, "task.gian=1")
    assert said.code == 2
    assert not (crown.root / ".crown").exists()


def test_a_word_that_is_none_is_a_mistake(crown: Any) -> None:
    said = crown("explan", "seed")
    assert said.code == 2
    assert "explain" in said.err


def test_nothing_typed_shows_the_words(crown: Any) -> None:
    assert crown().code == 2


def test_tracebacks_are_there_for_those_who_ask_and_the_code_is_the_same(
    crown: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    said = crown(QUICK, "task.gian=1")
    assert said.code == 2
    assert said.lines[0] == "Traceback (most recent call last):"
    assert said.lines[-1].endswith("task.gian: no such key; did you mean gain? (their_tasks.py:12)")


def test_a_store_that_cannot_be_written(crown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    crown.write("blocked", "a file where the store should be")
    monkeypatch.setenv("CROWN_STORAGE__ROOT", str(crown.root / "blocked" / "store"))
    said = crown(QUICK)
    assert said.code == 80
    assert "Traceback" not in said.err


def test_ctrl_c_in_a_run(crown: Any) -> None:
    said = crown.interrupt("task=slow", began="began-0")
    assert said.code == 130
    assert "Traceback" not in said.err
    assert any(line.startswith(f"{crown.runs()[0]['id']} stopped after ") for line in said.lines)


def test_sigterm_in_a_run(crown: Any) -> None:
    said = crown.stop("task=slow", began="began-0", with_signal=signal.SIGTERM, group=False)
    assert said.code == 75


def test_the_module_and_the_function_end_alike(crown: Any) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "crown_exp", QUICK, "task.gian=1"],
        cwd=crown.root, text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    said = crown(QUICK, "task.gian=1")
    assert (ran.returncode, ran.stdout, ran.stderr) == (said.code, said.out, said.err)
