"""README.md is a session that works: its commands are typed, in order, into a copy of this checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from crown_exp.outcome import ExitCode
from tests.pages import ROOT, Block, Shell, blocks_of
from tests.sky_project import STAND_IN, near_targets
from tests.stand_in.sky import edge

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = blocks_of(ROOT / "README.md")


def test_there_is_something_to_test() -> None:
    assert {"sh", "console", "python", "yaml", ""} == {block.language for block in BLOCKS}


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if (ROOT / block.path).is_file()], ids=lambda b: b.path
)
def test_what_is_shown_of_a_file_stands_there(block: Block) -> None:
    rest = (ROOT / block.path).read_text(encoding="utf-8")
    for piece in re.split(r"^ *\.\.\.\n", block.body, flags=re.MULTILINE):
        _, found, rest = rest.partition(piece)
        assert found, f"{block.where}: not in {block.path}, or not in this order:\n{piece}"


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


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell in a copy of the checkout; what is in .crown or in git stays as it is.

    Its SkyPilot is the stand-in, whose machines are this one: they see its files.
    """
    copy = tmp_path / "crown_exp"
    copy.mkdir()
    for name in ("conf", "crown_exp", "experiments", "launchers", "dev"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", ".env.example", ".gitignore"):
        shutil.copy(ROOT / name, copy / name)
    near_targets(copy / "conf", "a100_spot", "h100")
    state = tmp_path / "stand-in"
    path = [str(folder) for folder in (copy, copy / "launchers", STAND_IN)]
    variables = {
        "PYTHONPATH": os.pathsep.join(path),
        "HOME": str(tmp_path),
        "SKY_STAND_IN": str(state),
    }
    try:
        yield Shell(copy, variables)
    finally:
        edge.stop(state)


@pytest.mark.timeout(900)  # four experiments are trained
def test_every_command_works_as_it_is_shown(shell: Shell) -> None:
    for block in BLOCKS:
        if block.path and not (ROOT / block.path).is_file():
            shell.write(block)
        elif block.language == "sh":
            shell.type_all(in_short(block))
        elif block.language == "console":
            shell.compare(block)
        elif block.language == "python" and not block.path:
            (shell.directory / "readme_block.py").write_text(block.text, encoding="utf-8")
            code, output = shell.type("python readme_block.py")
            assert code == 0, f"{block.where}\n{output}"


def in_short(block: Block) -> Block:
    """Without `make`, which would install: see the test above. What takes minutes makes a few steps."""
    kept = [line for line in block.text.splitlines(True) if not line.startswith("make ")]
    return replace(block, text="".join(kept).replace("# minutes", "limits.steps=3 # minutes"))
