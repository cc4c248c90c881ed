"""What is kept of a job on disk: a folder that only its user can read, on the cluster's shared files.

<root>/<name>/    job.json   what to run, with its secrets     start.py   what starts it
                  began.json  again.json  end.json  cancelled   <handle>_0_log.out   what it printed
<root>/.handles/<handle>     the job's name
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crown_exp.compute.base import Job

START = Path(__file__).with_name("start.py")


@dataclass(frozen=True)
class JobFolders:
    """The folders of all jobs below a root."""

    root: Path

    def prepare(self, job: Job) -> Path:
        """A folder with all that the job needs, for its user alone. What an earlier job left is gone."""
        folder = self.root / job.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        directory = job.directory or Path.cwd()
        if job.bundle is not None:
            directory = folder / "bundle"
            shutil.copytree(job.bundle, directory, symlinks=True)
        shutil.copyfile(START, folder / "start.py")
        record = {
            "argv": list(job.argv), "setup": list(job.setup), "directory": str(directory.absolute()),
            "env": dict(job.target.env) | dict(job.env), "secrets": dict(job.secrets),
        }  # fmt: skip
        opened = os.open(folder / "job.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(opened, "w", encoding="utf-8") as file:
            json.dump(record, file)
        return folder

    def note(self, handle: str, name: str) -> None:
        """Keep what Slurm calls a job."""
        handles = self.root / ".handles"
        handles.mkdir(mode=0o700, parents=True, exist_ok=True)
        (handles / handle).write_text(name, encoding="utf-8")

    def folder(self, handle: str, name: str = "") -> Path | None:
        """The folder of a job; None if it was not submitted from here."""
        try:
            known = name or (self.root / ".handles" / handle).read_text(encoding="utf-8")
        except (FileNotFoundError, ValueError):
            return None
        folder = self.root / known
        return folder if folder.is_dir() else None


def read(folder: Path | None, record: str, handle: str) -> dict[str, Any] | None:
    """What a job wrote of itself; None if it has not, or if it is another job's."""
    if folder is None:
        return None
    try:
        found: dict[str, Any] = json.loads((folder / record).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found if found["handle"] == handle else None
