"""A project, and an executor whose jobs are what a test says they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from crown_exp.launch.session import Session
from tests.launches import Told, project, session_with


@pytest.fixture
def executor() -> Told:
    return Told()


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: Told) -> Iterator[Session]:
    """In its folder, as a command has it. A file with an executor of its own has a fixture for that."""
    monkeypatch.chdir(tmp_path)
    project(tmp_path)
    with session_with({"skypilot": executor}) as opened:
        yield opened
