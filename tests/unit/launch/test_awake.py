"""A Mac does not fall asleep while something runs here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crown_exp.launch.awake import awake
from crown_exp.storage.machine import alive
from tests.elsewhere import until

FAKE = """#!/bin/sh
echo "$$ $@" > "{notes}.new"
mv "{notes}.new" "{notes}"
exec sleep 600
"""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a `caffeinate` of ours writes who it is and what it was told."""
    notes, program = tmp_path / "notes", tmp_path / "caffeinate"
    program.write_text(FAKE.format(notes=notes))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("crown_exp.launch.awake.GRACE_SECONDS", 120.0)
    return notes


def test_a_mac_is_kept_awake_while_something_runs(notes: Path) -> None:
    with awake("darwin"):
        until(notes.exists)
        pid, *told = notes.read_text().split()
        assert told == ["-i", "-w", str(os.getpid())]
        assert alive(int(pid), None)
    assert not alive(int(pid), None)


def test_it_ends_also_when_what_ran_failed(notes: Path) -> None:
    with pytest.raises(ValueError, match="x"), awake("darwin"):
        until(notes.exists)
        raise ValueError("x")
    assert not alive(int(notes.read_text().split()[0]), None)


def test_no_other_machine_is(notes: Path) -> None:
    with awake("linux"):
        pass
    assert not notes.exists()


def test_a_mac_without_the_program_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with awake("darwin"):
        pass
