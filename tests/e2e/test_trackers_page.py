"""docs/trackers.md: every command and every file on the page, carried out as written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import CommandLine
from tests.pages import ROOT, blocks_of

pytest.importorskip("wandb", reason="W&B is not installed")

PAGE = ROOT / "docs" / "trackers.md"
BLOCKS = blocks_of(PAGE)


def blocks(language: str) -> list[str]:
    return [block.text for block in BLOCKS if block.language == language]


def named_files() -> list[str]:
    """The files that the page says its blocks of python and yaml are, in order."""
    return re.findall(r"`((?:conf/)?[\w/]+\.(?:py|yaml))`", PAGE.read_text(encoding="utf-8"))


@pytest.fixture
def lab(crown: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    """A project as `crown-exp init` writes it, of a user who is not logged in at W&B."""
    (tmp_path / "user").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("NETRC", raising=False)
    project = tmp_path / "project"
    assert crown("init", str(project)).code == 0
    monkeypatch.chdir(project)
    monkeypatch.delitem(sys.modules, "trackers", raising=False)
    return CommandLine(project, crown.capture)


def test_every_block_is_of_a_kind_that_is_carried_out_here() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "python", "yaml"}
    assert named_files() == ["trackers.py", "conf/tracker/lines.yaml", "test_trackers.py"]


def test_the_page_as_written(lab: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    install, tracked, push, own = (text.strip() for text in blocks("sh"))
    assert install == "pip install wandb"

    said = lab(*tracked.split()[1:])
    assert said.code == 0, said.err
    (run,) = lab.runs()
    assert f"crown-exp push --wandb {run['id']}" in said.err

    monkeypatch.setenv("WANDB_MODE", "offline")
    assert lab(*push.replace("<run>", run["id"]).split()[1:]).code == 0

    module, test = blocks("python")
    for name, text in zip(named_files(), (module, *blocks("yaml"), test), strict=True):
        lab.write(name, text)
    said = lab(*own.split()[1:])
    assert said.code == 0, said.err
    run_id = lab.runs()[-1]["id"]
    kept = (lab.root / ".crown" / "points" / f"{run_id}.jsonl").read_text().splitlines()
    assert len(kept) >= 20

    path = os.pathsep.join([str(ROOT), str(lab.root)])
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_trackers.py"],
        cwd=lab.root, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert " passed" in tests.stdout and "failed" not in tests.stdout


def test_a_typo_in_the_yaml_of_ones_own_is_named(lab: CommandLine) -> None:
    module, _ = blocks("python")
    lab.write("trackers.py", module)
    lab.write("conf/tracker/lines.yaml", "_target_: trackers.Lines\nfoldr: x\nprogress: auto\n")
    said = lab("+experiment=digits_cnn", "tracker=lines")
    assert said.code == 2
    assert "foldr" in said.err and "folder" in said.err
