"""README.md is a session that works: its commands are typed, in order, into a copy of this checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from crown_exp.config.project import builtin_conf
from crown_exp.outcome import ExitCode

ROOT = builtin_conf().parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its first line in README.md, its text."""

    language: str
    line: int
    text: str

    @property
    def path(self) -> str:
        """The file it says to be (part of), by a comment on its first line."""
        found = re.match(r"# (\S+\.(?:py|yaml))\n", self.text)
        return found[1] if found else ""

    @property
    def body(self) -> str:
        return self.text.partition("\n")[2] if self.path else self.text


def blocks() -> Iterator[Block]:
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        yield Block(found[1], README.count("\n", 0, found.start()) + 1, found[2])


BLOCKS = list(blocks())


def test_there_is_something_to_test() -> None:
    assert {"sh", "console", "python", "yaml", ""} == {block.language for block in BLOCKS}
    assert README.count("\n```") == 2 * len(BLOCKS)


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if (ROOT / block.path).is_file()], ids=lambda b: b.path
)
def test_what_is_shown_of_a_file_stands_there(block: Block) -> None:
    rest = (ROOT / block.path).read_text(encoding="utf-8")
    for piece in re.split(r"^ *\.\.\.\n", block.body, flags=re.MULTILINE):
        _, found, rest = rest.partition(piece)
        assert found, f"README.md:{block.line}: not in {block.path}, or not in this order:\n{piece}"


def test_the_exit_codes_are_those_there_are() -> None:
    rows = re.findall(r"^\| (\d+) \| \S", README, re.MULTILINE)
    assert [int(code) for code in rows] == sorted(ExitCode)


MADE = re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE)


@pytest.mark.parametrize("target", sorted(set(MADE)))
def test_every_make_target_that_is_named_exists(target: str) -> None:
    asked = subprocess.run(
        ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert asked.returncode == 0, asked.stderr


class Session:
    """A shell in a copy of the checkout; what is in .crown, in git or installed stays as it is."""

    def __init__(self, root: Path, home: Path) -> None:
        self.directory, self.code = root, 0
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CROWN_", "PYTHON"))}
        self.env = kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
            "HOME": str(home),
            "PYTHONPATH": os.pathsep.join((str(root), str(root / "launchers"))),
            "CUDA_VISIBLE_DEVICES": "",  # the output shown is that of a machine without a GPU
        }

    def type(self, command: str) -> str:
        """Run a command where the last one left off; returns what it printed."""
        if "pip install" in command:
            command += " --dry-run --no-deps --no-index --no-build-isolation --quiet"
        script = f"(exit {self.code})\n{command}\ncode=$?; echo; pwd; exit $code"
        ran = subprocess.run(
            ["bash", "-c", script], cwd=self.directory, env=self.env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output, _, directory = ran.stdout.rstrip("\n").rpartition("\n")
        self.code, self.directory = ran.returncode, Path(directory)
        return output

    def write(self, block: Block) -> None:
        path = self.directory / block.path
        assert path.parent.is_dir(), f"README.md:{block.line}: no such folder here"
        path.write_text(block.body, encoding="utf-8")


@pytest.fixture
def session(tmp_path: Path) -> Session:
    copy = tmp_path / "crown_exp"
    copy.mkdir()
    for name in ("conf", "crown_exp", "experiments", "launchers", "dev"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", ".env.example", ".gitignore"):
        shutil.copy(ROOT / name, copy / name)
    return Session(copy, tmp_path)


def test_every_command_works_as_it_is_shown(session: Session) -> None:
    for block in BLOCKS:
        if block.path and not (ROOT / block.path).is_file():
            session.write(block)
        elif block.language == "sh":
            type_all(session, block)
        elif block.language == "console":
            compare_all(session, block)
        elif block.language == "python" and not block.path:
            (session.directory / "readme_block.py").write_text(block.text, encoding="utf-8")
            output = session.type("python readme_block.py")
            assert session.code == 0, f"README.md:{block.line}\n{output}"


def type_all(session: Session, block: Block) -> None:
    """Every line of a block of commands must succeed; `make` would install: see the test above."""
    for command in block.text.splitlines():
        if not command.startswith("make "):
            output = session.type(command)
            assert session.code == 0, f"README.md:{block.line}: {command}\n{output}"


def compare_all(session: Session, block: Block) -> None:
    """The output of every `$ command` holds the lines shown below it, ids and numbers aside."""
    dialogue = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE)
    for index, (command, shown) in enumerate(dialogue):
        printed = session.type(command)
        where = f"README.md:{block.line}: {command}\n{printed}"
        assert masked(shown) <= masked(printed), where
        told = index + 1 < len(dialogue) and dialogue[index + 1][0] == "echo $?"
        assert told or session.code == 0, where
        if command == "echo $?":
            assert printed.split() == shown.split(), where


def masked(text: str) -> set[str]:
    """The lines of a text, with ids and numbers made equal."""
    return {
        re.sub(r"\d[\d.:]*", "N", re.sub(r"\br\d{6}-\w{6}\b", "ID", line.rstrip()))
        for line in text.splitlines()
    }
