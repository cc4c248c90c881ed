"""A store with runs, and words typed in its project, in this process."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from crown_exp.__main__ import guarded
from crown_exp.launch import index
from crown_exp.registry import refresh
from crown_exp.registry.opening import VERSION_TABLE
from crown_exp.storage import BlobStore, Portal, open_blobs

PATIENCE_SECONDS = 600.0


@dataclass
class World:
    """call: of what is asynchronous in tests.unit.registry.folders. said: what a word wrote."""

    root: Path
    blobs: BlobStore
    portal: Portal
    capture: pytest.CaptureFixture[str]

    @property
    def runs(self) -> Path:
        return self.root / "store/runs"

    @property
    def database(self) -> Path:
        return self.root / "home/registry.db"

    def call(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.portal.call(work, *args, **kwargs)

    def type(self, *words: str) -> tuple[int, str, str]:
        """The exit code of a word, and what it wrote to standard output and standard error."""
        self.capture.readouterr()
        code = guarded(words)
        out, err = self.capture.readouterr()
        assert "Traceback" not in err
        if "--json" not in words:
            assert all(len(line) <= 80 for line in out.splitlines() if str(self.root) not in line)
        assert "\x1b" not in out
        return code, out, err

    def out(self, *words: str) -> list[str]:
        """The lines of a word that has nothing to complain of."""
        code, out, err = self.type(*words)
        assert (code, err) == (0, "")
        return out.splitlines()

    def json(self, *words: str) -> Any:
        (line,) = self.out(*words, "--json")
        return json.loads(line)

    def refused(self, *words: str, code: int = 2) -> str:
        """The one line of a word that does nothing."""
        found, out, err = self.type(*words)
        assert (found, out, err.count("\n")) == (code, "", 1)
        return err


@contextmanager
def world(
    root: Path, monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]
) -> Iterator[World]:
    """A project in `root`, the current directory, with its store and home below it.

    A word looks at the store for as long as it takes: how busy a machine is decides no test.
    """
    monkeypatch.setattr(index, "refresh", partial(refresh, seconds=PATIENCE_SECONDS))
    monkeypatch.setattr(index, "PATIENCE_S", PATIENCE_SECONDS)
    (root / "pyproject.toml").write_text("[tool.crown_exp]\n")
    monkeypatch.chdir(root)
    monkeypatch.setenv("CROWN_HOME", str(root / "home"))
    monkeypatch.setenv("CROWN_STORAGE__ROOT", str(root / "store"))
    monkeypatch.setenv("CROWN_USER", "ada")
    with Portal() as portal:
        yield World(root, open_blobs(str(root / "store")), portal, capture)


def newer(path: Path) -> None:
    """A registry becomes one of a newer version."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")


def foreign(path: Path) -> None:
    """A registry becomes the database of another program."""
    path.unlink()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE theirs (x)")
