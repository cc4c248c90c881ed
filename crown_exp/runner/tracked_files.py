"""A file or folder as part of a run's state: its bytes, whatever they mean, by name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from crown_exp.errors import TaskError

NOTHING, FILE, FOLDER = "nothing", "file", "folder"


class FilesState:
    """state_dict and load_state_dict for what lies at a path.

    path: a file, a folder, or nothing yet. A load makes it what it was: other files of the folder are removed.
    Raises TaskError for a folder in which others work, too.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path.resolve()  # wherever the task goes later
        for shared in (Path.cwd().resolve(), Path.home().resolve()):
            if shared.is_relative_to(self.path):
                raise TaskError(
                    f"run.track: {name} is {path}, which holds {shared}; a resume removes what was not "
                    f'there: track a folder of its own, such as Path("{name}")'
                )

    def state_dict(self) -> dict[str, Any]:
        """What is there: files as uint8 tensors by their name within it, links by what they say, folders.

        Raises TaskError for what is none of these.
        """
        if self.path.is_file():
            return {"kind": FILE, "files": {self.path.name: read(self.path)}}
        if not self.path.exists():
            return {"kind": NOTHING}
        files, links, folders = {}, {}, []
        for inside in sorted(_below(self.path)):
            place = inside.relative_to(self.path).as_posix()
            if inside.is_symlink():
                links[place] = str(inside.readlink())
            elif inside.is_dir():
                folders.append(place)
            elif inside.is_file():
                files[place] = read(inside)
            else:
                raise TaskError(f"run.track: {self.name}: {inside} is neither a file nor a folder")
        return {"kind": FOLDER, "files": files, "links": links, "folders": folders}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make it what it was. Each file is whole at every moment; one that is the same is left alone."""
        if state["kind"] == NOTHING:
            remove(self.path)
        elif state["kind"] == FILE:
            if self.path.is_dir():
                remove(self.path)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            (saved,) = state["files"].values()
            write(self.path, saved)
        else:
            self._load_folder(state["files"], state["links"], state["folders"])

    def _load_folder(
        self, files: Mapping[str, Any], links: Mapping[str, str], folders: list[str]
    ) -> None:
        if not self.path.is_dir():
            remove(self.path)
            self.path.mkdir(parents=True)
        kept = {self._within(place) for place in (*files, *folders)}
        for inside in sorted(_below(self.path), reverse=True):  # what is in a folder before it
            if inside not in kept or inside.is_symlink():
                remove(inside)
        for place in sorted(folders):
            folder = self._within(place)
            if not folder.is_dir():
                remove(folder)
                folder.mkdir()
        for place, saved in files.items():
            file = self._within(place)
            if file.is_dir():
                remove(file)
            write(file, saved)
        for place, target in links.items():
            self._within(place).symlink_to(target)

    def _within(self, place: str) -> Path:
        parts = PurePosixPath(place).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise TaskError(f"run.track: {self.name}: a saved file named {place!r} lies elsewhere")
        return self.path.joinpath(*parts)


def _below(folder: Path) -> Iterator[Path]:
    """All in a folder and its folders; links are not followed."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in (*folders, *files))


def read(path: Path) -> Any:
    """The bytes of a file, as a tensor."""
    import torch

    data = bytearray(path.read_bytes())
    return torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def write(path: Path, saved: Any) -> None:
    """Write a file, which is the old one or the new one at every moment."""
    if path.is_file() and path.stat().st_size == len(saved) and read(path).equal(saved):
        return
    beside = path.with_name(f".{path.name[:200]}.new")
    beside.write_bytes(memoryview(saved.numpy()))
    if path.is_file():
        shutil.copymode(path, beside)
    beside.replace(path)


def remove(path: Path) -> None:
    """Remove what is there, if anything is; of a link, only the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
