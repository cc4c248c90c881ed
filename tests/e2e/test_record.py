"""Three runs of a real experiment, then every word on them: plain, for machines, piped; and no database."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crown_exp.config.project import builtin_conf

ROOT = builtin_conf().parent


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass(frozen=True)
class Terminal:
    """`crown-exp …` in a checkout, in a process of its own, with a home of its own."""

    home: Path

    def __call__(self, *typed: str, module: str = "crown_exp") -> Said:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("CROWN_", "WANDB_"))}
        env |= {"CROWN_HOME": str(self.home), "COLUMNS": "80", "CUDA_VISIBLE_DEVICES": ""}
        ran = subprocess.run(
            [sys.executable, "-m", module, *typed], cwd=ROOT, env=env, text=True, timeout=240,
            capture_output=True, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        return Said(ran.returncode, ran.stdout, ran.stderr)

    def forget(self) -> None:
        """Delete the database."""
        for file in self.home.glob("registry.db*"):
            file.unlink()


@pytest.fixture(scope="module")
def crown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A home with three runs: two equal but for their seed, one that fails."""
    terminal = Terminal(tmp_path_factory.mktemp("record") / "home")
    short = ("+experiment=digits_cnn", "limits.steps=40")
    for more in (("seed=1",), ("seed=2", "optimizer.lr=1e-2", "tags=[paper]")):
        done = terminal(*short, *more)
        assert done.code == 0, done.err
    failed = terminal(*short, "optimizer.lr=1e30")
    assert failed.code == 79, failed.err
    return terminal


@pytest.fixture
def ids(crown: Terminal) -> list[str]:
    """The runs, the oldest first."""
    found: list[str] = [
        run["id"] for run in crown("runs", "--sort", "created", "--json").json["runs"]
    ]
    assert len(found) == 3
    return found


KEYS = {
    "id", "experiment", "name", "user", "status", "signature", "attempt", "step", "result", "cost",
    "created", "config",
}  # fmt: skip
ESCAPE = re.compile(r"\x1b")


def fits(said: Said) -> None:
    """What people read: no colour in a pipe, nothing wider than 80 columns but what must be whole."""
    assert said.code == 0, said.err
    assert said.out
    assert not ESCAPE.search(said.out)
    wide = [line for line in said.lines if len(line) > 80 and not line.startswith("next")]
    assert wide == []
    assert "next" in said.lines[-1]


def test_runs(crown: Terminal, ids: list[str]) -> None:
    plain = crown("runs")
    fits(plain)
    assert all(run in plain.out for run in ids)
    for run in crown("runs", "--json").json["runs"]:
        assert run.keys() >= KEYS
    assert [run["status"] for run in crown("runs", "--sort", "created", "--json").json["runs"]] == [
        "completed", "completed", "failed",
    ]  # fmt: skip
    (paper,) = crown("runs", "tag:paper", "--json").json["runs"]
    assert paper["id"] == ids[1]
    assert paper["result"]["accuracy"] > 0.3
    (failed,) = crown("runs", "--state", "failed", "--json").json["runs"]
    assert failed["id"] == ids[2]
    assert len(crown("runs", "--mine", "--limit", "2", "--json").json["runs"]) == 2
    fits(crown("runs", "--columns", "accuracy,lr,min(loss)"))


def test_show(crown: Terminal, ids: list[str]) -> None:
    plain = crown("show", ids[0].partition("-")[2][:5])
    fits(plain)
    for told in (ids[0], "completed", "accuracy", "loss", "optimizer"):
        assert told in plain.out
    assert "conf/experiment/digits_cnn.yaml" in crown("show", ids[0], "--origins").out
    shown = crown("show", ids[1], "--json").json
    assert shown.keys() >= KEYS
    assert shown["config"]["optimizer"]["lr"] == 0.01
    assert "Diverged" in crown("show", ids[2]).out or "not finite" in crown("show", ids[2]).out


def test_compare(crown: Terminal, ids: list[str]) -> None:
    plain = crown("compare", ids[0], ids[1])
    fits(plain)
    for told in ("seed", "optimizer.lr", "accuracy"):
        assert told in plain.out
    assert "batch_size" not in plain.out
    compared = crown("compare", *ids, "--json").json
    assert [run["id"] for run in compared["runs"]] == ids
    assert compared["config"]["seed"] == ["1", "2", "0"]


def test_logs(crown: Terminal, ids: list[str]) -> None:
    plain = crown("logs", ids[0])
    fits(plain)
    assert "loss" in plain.out
    lines = [json.loads(line) for line in crown("logs", ids[0], "--json").lines]
    assert sum("loss" in str(line) for line in lines) >= 40
    followed = crown("logs", "-f", ids[0])
    assert followed.code == 0


def test_tag_and_note_survive_the_database(crown: Terminal, ids: list[str]) -> None:
    fits(crown("tag", ids[0], "+baseline"))
    fits(crown("note", ids[0], "lr was too low"))
    before = crown("show", ids[0], "--json").json
    crown.forget()
    after = crown("show", ids[0], "--json").json
    assert after == before
    assert after["tags"] == ["baseline"]
    assert after["note"] == "lr was too low"
    assert crown("tag", ids[0], "-baseline").code == 0


def test_without_the_database_every_word_says_the_same(crown: Terminal, ids: list[str]) -> None:
    asked = [
        ("runs", "--json"), ("show", ids[0], "--json"), ("show", ids[2], "--json"),
        ("compare", ids[0], ids[1], "--json"), ("logs", ids[1], "--json"),
    ]  # fmt: skip
    before = [crown(*words) for words in asked]
    crown.forget()
    made = crown("reindex")
    fits(made)
    after = [crown(*words) for words in asked]
    assert [said.out for said in after] == [said.out for said in before]
    assert {said.code for said in before} == {0}


def test_doctor(crown: Terminal) -> None:
    plain = crown("doctor")
    fits(plain)
    findings = {one["check"]: one["status"] for one in crown("doctor", "--json").json}
    assert findings["store"] == findings["registry"] == findings["python"] == "ok"


def test_delete_asks_first(crown: Terminal, ids: list[str]) -> None:
    refused = crown("delete", ids[2])
    assert refused.code == 2
    assert "--yes" in refused.err
    assert ids[2] in crown("runs").out
    planned = crown("prune", "state:failed", "--dry-run")
    fits(planned)
    assert ids[2] in planned.out
    gone = crown("delete", ids[2], "--yes")
    fits(gone)
    assert ids[2] not in crown("runs").out
    assert not (crown.home / "store" / "runs" / ids[2]).exists()
