"""Write many files or none, and never over another."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from crown_exp.errors import ConfigError


def write_all(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write every file below `directory`, which is made if it is not there.

    Raises ConfigError if anything is in the way or cannot be written; then nothing was, or it is gone again.
    """
    if obstacle := in_the_way(directory, files):
        what = f"{obstacle}; nothing was written. Choose another: crown-exp init <directory>"
        raise ConfigError.of(told(directory), what)
    made: list[Path] = []
    try:
        for path, data in files.items():
            target = directory / path
            make_folder(target.parent, made)
            with target.open("xb") as stream:
                made.append(target)
                stream.write(data)
    except BaseException as error:
        undo(made)
        if isinstance(error, OSError):
            why = error.strerror or error
            raise ConfigError.of(told(directory), f"cannot write: {why}; nothing was") from None
        raise


def in_the_way(directory: Path, files: Mapping[str, bytes]) -> str:
    """What stands where a file or a folder has to be, as half a sentence; empty if nothing does."""
    folders = {folder for path in files for folder in (directory / path).parents}
    for folder in sorted(folders):
        if os.path.lexists(folder) and not folder.is_dir():
            return f"{folder} is no directory"
    taken = sorted(path for path in files if os.path.lexists(directory / path))
    return f"{', '.join(taken)} {'exists' if len(taken) == 1 else 'exist'} already" if taken else ""


def told(directory: Path) -> str:
    """A directory as people call it."""
    return "this directory" if directory == Path() else str(directory)


def make_folder(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it, noting which are new."""
    for new in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
        new.mkdir()
        made.append(new)


def undo(made: list[Path]) -> None:
    """Remove what was made, the newest first."""
    for path in reversed(made):
        try:
            path.rmdir() if path.is_dir() else path.unlink()
        except OSError:
            continue  # somebody else put something there
