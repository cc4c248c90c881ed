"""The files that a run's task stored."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crown_exp.config.nearest import did_you_mean
from crown_exp.face.source import Source
from crown_exp.folder import RunPaths
from crown_exp.folder.files import extension
from crown_exp.registry.base import FileInfo

SHOWN = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif",
    "webp": "image/webp", "svg": "image/svg+xml",
}  # fmt: skip
"""What a notebook shows as a picture."""


@dataclass(frozen=True, slots=True)
class RunFile:
    """A file of a run. name: without the step; step: the turn it was stored in, 0 before any.

    size: bytes. kind: image, array, table, text or file. place: its path in the store (a URL), which `source`
    can reach.
    """

    name: str
    step: int | None
    size: int
    kind: str
    source: Source
    store: str
    place: str

    @property
    def path(self) -> Path | None:
        """Where it is on this machine; None if the store is elsewhere: then `read` it."""
        return self.source.blobs(self.store).local_path(self.place)

    def read(self) -> bytes:
        """Its bytes. Raises StoreError if it is gone or the store cannot be read."""
        return self.source.read(self.store, self.place)

    def text(self) -> str:
        """Its bytes as UTF-8, with a mark for what is none."""
        return self.read().decode(errors="replace")

    def __repr__(self) -> str:
        turn = "" if self.step is None else f" of step {self.step}"
        return f"<{self.kind} {self.name}{turn}, {self.size:,} bytes>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook shows: a picture as one."""
        shown = {"text/plain": repr(self)}
        kind = SHOWN.get(extension(self.name))
        if kind == "image/svg+xml":
            return shown | {kind: self.text()}
        return shown | ({kind: base64.b64encode(self.read()).decode()} if kind else {})


class Files(Mapping[str, RunFile]):
    """The files of a run, by their path: `files["000500/samples.png"]`, in the order of steps.

    The name alone stands for the newest of that name: `files["samples.png"]`. KeyError, as of any mapping.
    """

    def __init__(self, source: Source, run_id: str, store: str, found: Sequence[FileInfo]) -> None:
        root = RunPaths(run_id).files
        self._by_path = {
            file.path: RunFile(
                name=file.path if file.step is None else file.path.partition("/")[2],
                step=file.step, size=file.bytes, kind=file.kind, source=source,
                store=store, place=f"{root}{file.path}",
            )
            for file in sorted(found, key=lambda file: (file.step or 0, file.path))
        }  # fmt: skip
        self._newest = {file.name: file for file in self._by_path.values()}

    def __getitem__(self, name: str) -> RunFile:
        file = self._by_path.get(name) or self._newest.get(name)
        if file is None:
            raise KeyError(
                f"{name}: {did_you_mean(name, self._newest) or 'the run stored no files'}"
            )
        return file

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_path)

    def __len__(self) -> int:
        return len(self._by_path)

    def __repr__(self) -> str:
        return f"<{len(self)} files: {', '.join(self)}>" if self else "<no files>"
