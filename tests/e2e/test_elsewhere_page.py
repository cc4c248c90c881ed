"""docs/elsewhere.md: every file written and every command typed, on the stand-in of SkyPilot.

Its clouds are this machine, whose files they see; the store is a directory, as nothing else is needed for that.
So its targets get `shared: true` and `environment: image` here, which is all that the reader does not type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crown_exp.launch.remote.watching.leaving import AGAIN_SECONDS, parting
from tests.e2e.test_pages import missing
from tests.pages import ROOT, Block, Shell, blocks_of, compare
from tests.running import Project
from tests.sky_project import near_targets, sky_project

PAGE = ROOT / "docs" / "elsewhere.md"
BLOCKS = blocks_of(PAGE)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with sky_project(tmp_path / "project", "def nothing(run): ...") as project:
        (project.root / "experiments").mkdir()
        (project.root / "conf/experiment").mkdir(exist_ok=True)
        yield project


@pytest.fixture
def shell(project: Project) -> Shell:
    near_targets(project.root / "conf", "a100", "a100_spot", "h100")
    return Shell(project.root, {**project.environment, "COLUMNS": "100"})


def test_every_block_is_of_a_kind_that_is_carried_out_here() -> None:
    assert {block.language for block in BLOCKS} == {"python", "yaml", "console", "text"}


def test_the_page_as_written(shell: Shell) -> None:
    for block in BLOCKS:
        if block.language in ("python", "yaml"):
            shell.write(block)
        elif block.language == "console":
            compare(block, shell.type, missing)


def test_every_target_is_in_the_table() -> None:
    told = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(told) == sorted(path.stem for path in (ROOT / "conf/compute").glob("*.yaml"))


def test_what_ctrl_c_is_shown_to_print_is_what_it_prints() -> None:
    shown = found("detached: ")
    run = re.findall(r"r\d{6}-\w{6}", shown.text)[0]
    watching: Any = SimpleNamespace(
        open=[SimpleNamespace(run=SimpleNamespace(record=SimpleNamespace(id=run)))]
    )
    assert shown.text.partition("\n")[2] == f"{parting(watching, AGAIN_SECONDS)}\n"


def found(text: str) -> Block:
    """The block of prose that shows a text."""
    return next(block for block in BLOCKS if block.language == "text" and text in block.text)
