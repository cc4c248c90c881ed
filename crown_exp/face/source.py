"""Where the face's answers come from. Nothing stays open between two of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crown_exp.config.project import Project, find_project
from crown_exp.errors import StoreError
from crown_exp.launch.index import Index, open_index
from crown_exp.registry import ingest_run, refresh
from crown_exp.storage import Portal, open_blobs
from crown_exp.storage.database import DatabaseError
from crown_exp.tracking.run_log import to_stderr

MOST_PROBLEMS = 5
"""Problems that are said line by line."""


@dataclass(frozen=True, slots=True)
class Source:
    """A project's runs. project: found once, so that a later change of directory changes nothing."""

    project: Project

    @classmethod
    def here(cls) -> Source:
        """The runs of the current directory's project, or of that directory if it is in none."""
        return cls(find_project(Path.cwd()) or Project(Path.cwd()))

    @contextmanager
    def opened(self) -> Iterator[Index]:
        """The index as it is. Raises SettingsError or DatabaseError."""
        with open_index(self.project) as index:
            yield index

    @contextmanager
    def refreshed(self) -> Iterator[Index]:
        """The index after a look at the store of two seconds at the most, as every word takes it.

        What could not be read is said on standard error; of a store that is away what was known is told.
        """
        with self.opened() as index:
            try:
                told = index.call(refresh, index.registry, index.blobs)
            except DatabaseError:
                raise
            except StoreError as error:
                to_stderr(f"{error}; what follows was known before")
            else:
                say(told.problems, told.left)
            yield index

    @contextmanager
    def refreshed_for(self, run_id: str) -> Iterator[Index]:
        """The index after a look at one run."""
        with self.opened() as index:
            try:
                say(index.call(ingest_run, index.registry, index.blobs, run_id).problems)
            except DatabaseError:
                raise
            except StoreError as error:
                to_stderr(f"{error}; what follows was known before")
            yield index


def say(problems: tuple[str, ...], left: int = 0) -> None:
    """What a look at the store did not bring, in a few lines."""
    for problem in problems[:MOST_PROBLEMS]:
        to_stderr(problem)
    if (more := len(problems) - MOST_PROBLEMS) > 0:
        to_stderr(f"... and {more:,} problems more; `crown-exp reindex` says them all")
    if left:
        to_stderr(f"{left:,} runs not looked at yet; ask again, or: crown-exp reindex")


def read_blob(store: str, path: str) -> bytes:
    """The bytes at a path of a store (its URL). Raises NotFound or another StoreError."""
    blobs = open_blobs(store)
    with Portal() as portal:
        return portal.call(blobs.get, path)
