"""A small project of a user's own: tasks, a group of its own, and whatever yaml a test writes."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from crown_exp.config.check import Checked
from crown_exp.config.compose import Composition, new_loader
from crown_exp.config.diagnose import sound
from crown_exp.config.layers import conf_layers, layered
from crown_exp.config.origin import Origin, Origins
from crown_exp.config.project import find_project
from crown_exp.errors import ConfigError

MODULE = '''
"""Tasks."""
from typing import Annotated, Literal

from annotated_types import Gt
from crown_exp import Config, Run


def train(run: Run, env: Config, teacher: Config | None = None, *, gain: float = 1.0,
          words: list[str] = (), table: dict = {}, text: str = "", mode: Literal["a", "b"] = "a",
          count: Annotated[int, Gt(0)] = 1): ...

def bare(run): ...

def needs(run, *, must: int): ...

def whole(run, cfg): ...

def backwards(env: Config, run): ...

def nothing(): ...

class Env:
    def __init__(self, size: int = 3, inner=None, names: list[str] = ()): ...

class Teacher:
    def __init__(self, size: int, **rest): ...
'''
FILES = {
    "conf/task/mine.yaml": "_target_: mine.train\ngain: 2.0\n",
    "conf/task/bare.yaml": "_target_: mine.bare\n",
    "conf/task/needs.yaml": "_target_: mine.needs\n",
    "conf/task/whole.yaml": "_target_: mine.whole\n",
    "conf/env/small.yaml": "_target_: mine.Env\nsize: 3\n",
    "conf/env/nested.yaml": "_target_: mine.Env\ninner:\n  _target_: mine.Env\n  size: 4\n",
    "conf/teacher/big.yaml": "_target_: mine.Teacher\nsize: 30\n",
    "conf/experiment/ok.yaml": (
        "# @package _global_\ndefaults:\n  - /env: small\n  - override /task: mine\n\nseed: 3\n"
    ),
}


class UserProject:
    """The project in the current directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str | bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else dedent(text).encode())

    def preset(self, name: str, text: str) -> str:
        """Write an experiment over the sound one; returns the override that chooses it."""
        self.write(f"conf/experiment/{name}.yaml", text)
        return f"+experiment={name}"

    def sound(self, *overrides: str, config_name: str = "config") -> tuple[Composition, Checked]:
        with layered(conf_layers(find_project(self.root))):
            return sound(new_loader(), overrides, config_name)

    def config(self, *overrides: str) -> dict[str, Any]:
        return self.sound(*overrides)[0].config

    def problems(self, *overrides: str, config_name: str = "config") -> list[str]:
        """Every problem of a command, one a line; none if it is sound."""
        try:
            self.sound(*overrides, config_name=config_name)
        except ConfigError as error:
            told = str(error).splitlines()
            assert len(told) == len(error.problems), "a problem has several lines"
            return told
        return []

    def chain(self, key: str, *overrides: str) -> list[Origin]:
        with layered(conf_layers(find_project(self.root))):
            return Origins(new_loader(), "config", overrides).chain(key)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UserProject:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = UserProject(tmp_path)
    made.write("pyproject.toml", "[tool.crown_exp]\n")
    made.write("mine.py", MODULE)
    for path, text in FILES.items():
        made.write(path, text)
    return made
