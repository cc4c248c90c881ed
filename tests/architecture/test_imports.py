"""Nothing heavy is imported by a command that does not need it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from crown_exp.config.project import builtin_conf

ROOT = builtin_conf().parent
HEAVY = {
    "torch",
    "numpy",
    "scipy",
    "sklearn",
    "wandb",
    "sky",
    "sqlalchemy",
    "accelerate",
    "pandas",
    "optuna",
}
DIGITS = "+experiment=digits_cnn"

COMMANDS = {
    "the config": (["--cfg", "job", DIGITS], 0),
    "an explanation": (["explain", "optimizer.lr", DIGITS], 0),
    "a mistyped key": ([DIGITS, "optimizer.lrr=1"], 2),
    "a mistyped option": ([DIGITS, "model=cn"], 2),
    "a target that is not there": ([DIGITS, "model._target_=torch.nn.Linaer"], 2),
    "a sweep without -m": ([DIGITS, "seed=1,2"], 2),
    "a sweep with a mistake": (["-m", DIGITS, "optimizer.lr=1,x"], 2),
    "Hydra's help": (["--help"], 0),
    "the shell's completion": (["-sc", "install=bash"], 0),
    "the search path": (["--info", "searchpath"], 0),
    "the defaults": (["--info", "defaults", DIGITS], 0),
    "all that Hydra knows": (["--info", "all", DIGITS], 0),
    "the whole config": (["--cfg", "all", DIGITS], 0),
    "a group explained": (["explain", "model", DIGITS], 0),
    "a new project": (["init", "{scratch}/new"], 0),
    "a query of the completion": (["-sc", "query=bash"], 0),
    "a run that is not there": (["run", "{scratch}/runs/r261122-k7f3q2"], 2),
    "our words": (["help"], 0),
    "the version": (["--version"], 0),
}
SAY_MODULES = """
import json, os, sys
from pathlib import Path
from crown_exp.__main__ import guarded
try:
    code = guarded(sys.argv[2:])
except SystemExit as end:
    code = end.code or 0
Path(sys.argv[1]).write_text(json.dumps([code, sorted(sys.modules)]))
"""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("modules")


@cache
def ran(command: str, scratch: Path) -> tuple[int, frozenset[str]]:
    """The exit code of a command, and every module that its process imported."""
    said = scratch / command.replace(" ", "-")
    words = [word.replace("{scratch}", str(scratch)) for word in COMMANDS[command][0]]
    subprocess.run(
        [sys.executable, "-c", SAY_MODULES, str(said), *words],
        cwd=ROOT, check=True, capture_output=True, timeout=120,
        env=os.environ | {"COMP_LINE": "crown-exp optim", "COMP_POINT": "15"},
    )  # fmt: skip
    code, modules = json.loads(said.read_text())
    return code, frozenset(modules)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_trains_nothing_imports_nothing_heavy(command: str, scratch: Path) -> None:
    code, modules = ran(command, scratch)
    assert code == COMMANDS[command][1]
    assert not HEAVY & modules


@pytest.mark.parametrize("command", ["our words", "the version"])
def test_words_that_need_no_config_import_no_hydra(command: str, scratch: Path) -> None:
    assert not {"hydra", "omegaconf", "pydantic", "rich", "anyio"} & ran(command, scratch)[1]


def test_a_mistake_needs_no_settings_no_store_and_no_table(scratch: Path) -> None:
    modules = ran("a mistyped key", scratch)[1]
    assert not {"pydantic", "pydantic_settings", "rich", "anyio", "asyncio"} & modules


def test_hydras_plugins_of_ours_import_nothing_of_ours_that_works() -> None:
    """Hydra imports them at the start of every application of the environment."""
    code = (
        "import sys; import hydra_plugins.crown_launcher.launcher, hydra_plugins.crown_sweeper.sweeper\n"
        "import hydra_plugins.crown_search_path.search_path\n"
        "print(sorted(name for name in sys.modules if name.startswith('crown_exp.')))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    rooms = "config, config.layers, config.project, errors"
    assert said.stdout.strip() == str([f"crown_exp.{name}" for name in rooms.split(", ")])
