"""The notebook of the documentation: it runs, in a kernel whose loop is running, and shows what it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
for needed in ("nbclient", "ipykernel", "pandas", "matplotlib", "sklearn"):
    pytest.importorskip(needed)

from dev.notebook import NOTEBOOK, executed  # noqa: E402


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: Any) -> list[list[str]]:
    """What a cell shows: streams by name, results by their types."""
    shown = [output.get("name") or sorted(output.get("data", [])) for output in cell.outputs]
    return [[it] if isinstance(it, str) else it for it in shown]


@pytest.fixture
def stored() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_runs_and_shows_what_is_stored(
    stored: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / ".ipython"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    project = tmp_path / "project"
    project.mkdir()
    again = executed(project)
    assert [kinds(cell) for cell in code(again)] == [kinds(cell) for cell in code(stored)]
    assert len(list((project / ".crown/store/runs").iterdir())) == 2


def test_what_is_stored_is_small_and_of_no_machine(stored: Any) -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 100_000
    assert not re.search(r"/(home|root|tmp|work|Users|usr)/", text)
    assert all(cell.execution_count == at for at, cell in enumerate(code(stored), 1))
