"""What is kept of a job on disk: a folder that only its user can read, on the cluster's shared files.

<root>/<name>/    job.json  what to run     secrets.json  until it is over     start.py  what starts it
                  began.json  again.json  end.json  cancelled   <handle>_0_log.out  what it printed
<root>/.handles/<handle>     the job's name
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crown_exp.compute.base import Job
from crown_exp.compute.executors.again import LONG_SECONDS, MOST_LOST

START = Path(__file__).with_name("start.py")
SECRETS = "secrets.json"

SUBMIT_SECONDS = 3600.0
"""So long a folder may be of a job that another process is about to submit."""

KEPT_SECONDS = 14 * 86400.0
"""How long the folder of a job that is over is kept."""


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
            directory = self.copied(job.name, job.bundle)
        shutil.copyfile(START, folder / "start.py")
        secrets = job.secrets
        record = {
            "argv": list(job.argv), "setup": list(job.setup), "directory": str(directory.absolute()),
            "env": {name: value for name, value in job.variables.items() if name not in secrets},
            "secret_names": sorted(secrets), "most_lost": MOST_LOST, "long_seconds": LONG_SECONDS,
        }  # fmt: skip
        _write(folder / "job.json", record)
        if secrets:
            _write(folder / SECRETS, dict(secrets))
        return folder

    def copied(self, name: str, bundle: Path) -> Path:
        """A copy of a bundle in the job's folder; what was there of an earlier one is written over."""
        (self.root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = self.root / name / "bundle"
        shutil.copytree(bundle, directory, symlinks=True, dirs_exist_ok=True)
        return directory

    def note(self, handle: str, name: str) -> None:
        """Keep what Slurm calls a job, and whose the folder is."""
        handles = self.root / ".handles"
        handles.mkdir(mode=0o700, parents=True, exist_ok=True)
        (handles / handle).write_text(name, encoding="utf-8")
        (self.root / name / "handle").write_text(handle, encoding="utf-8")

    def adopt(self, handle: str, name: str) -> None:
        """Note a job that lives and was never noted: who submitted it died between the two."""
        prepared = "/" not in name and (self.root / name / "job.json").exists()
        if prepared and not (self.root / ".handles" / handle).exists():
            self.note(handle, name)

    def folder(self, handle: str) -> Path | None:
        """The folder of a job; None if it was not submitted from here."""
        try:
            known = (self.root / ".handles" / handle).read_text(encoding="utf-8")
        except (FileNotFoundError, ValueError):
            return None
        folder = self.root / known
        return folder if folder.is_dir() else None

    def has(self, name: str) -> bool:
        """Whether there is, or was lately, a job of this name that was submitted from here, by whomever."""
        return (self.root / name).exists()

    def forget_secrets(self, handle: str) -> None:
        """Of a job that is over, however it ended. Its name, and its folder, may be another job's by now."""
        with contextlib.suppress(FileNotFoundError):
            folder = self.folder(handle)
            if folder is not None and (folder / "handle").read_text(encoding="utf-8") == handle:
                (folder / SECRETS).unlink()

    def tidy(self, live: Collection[str]) -> None:
        """Remove what belongs to jobs that are not among the live ones: secrets, and all of old ones."""
        now = time.time()
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            if folder.name in live or folder.name.startswith("."):
                continue
            with contextlib.suppress(OSError):  # another process may do the same
                age = now - max(file.stat().st_mtime for file in (folder, *folder.iterdir()))
                if age > KEPT_SECONDS:
                    shutil.rmtree(folder)
                elif age > SUBMIT_SECONDS:
                    (folder / SECRETS).unlink(missing_ok=True)


def _write(path: Path, record: dict[str, Any]) -> None:
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(opened, "w", encoding="utf-8") as file:
        json.dump(record, file)


def read(folder: Path | None, record: str, handle: str) -> dict[str, Any] | None:
    """What a job wrote of itself; None if it has not, or if it is another job's."""
    if folder is None:
        return None
    try:
        found: dict[str, Any] = json.loads((folder / record).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found if found["handle"] == handle else None
