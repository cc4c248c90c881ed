"""Where the face's answers come from. Nothing stays open between two of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crown_exp.config.project import Project, find_project
from crown_exp.config.settings import store_access
from crown_exp.launch.index import Index, look, look_at, open_index
from crown_exp.storage import BlobStore, Portal, open_blobs
from crown_exp.tracking.run_log import to_stderr


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
            look(index, to_stderr)
            yield index

    @contextmanager
    def refreshed_for(self, run_id: str) -> Iterator[Index]:
        """The index after a look at one run."""
        with self.opened() as index:
            look_at(index, run_id, to_stderr)
            yield index

    def blobs(self, store: str) -> BlobStore:
        """The store at a URL, reached as the project says. Nothing is read. Raises SettingsError."""
        return open_blobs(store, store_access(self.project))

    def read(self, store: str, path: str) -> bytes:
        """The bytes at a path of a store (its URL). Raises NotFound or another StoreError."""
        blobs = self.blobs(store)
        with Portal() as portal:
            return portal.call(blobs.get, path)
