"""What git says about a project's directory. Git is asked by subprocess, and only to read.

Paths go in and come out relative to the project's root, which may lie below the work tree's top.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crown_exp.config.settings import git_environment
from crown_exp.errors import ConfigError

NEVER = (":(exclude,glob)**/.env*", ":(exclude,glob)**/.env*/**")
"""What is in no snapshot: `.env`, `.env.local`, `.envrc`, … in any directory."""

_GITLINK = b"160000"


@dataclass(frozen=True)
class Change:
    """A tracked file that differs from the commit.

    size: the larger of its sizes there and here, in bytes; links and submodules count as 0.
    """

    path: str
    size: int


@dataclass(frozen=True)
class Repository:
    """A work tree as seen from a project's root.

    commit: HEAD, 40 hexadecimal digits (64 with SHA-256); None before the first commit.
    prefix: where the root lies in the work tree: "" at its top, else "path/to/it/".
    """

    root: Path
    commit: str | None
    prefix: str

    def changes(self, exclude: Sequence[str]) -> list[Change]:
        """The tracked files that differ from the commit, staged or not, by path."""
        raw = self._diff(("--raw", "-z", "--no-abbrev", "--relative"), exclude)
        fields = raw.split(b"\0")[:-1]
        blobs: dict[str, bytes] = {}
        for record, path in zip(fields[::2], fields[1::2], strict=True):
            old_mode, _, old_blob = record.removeprefix(b":").split(b" ")[:3]
            known = old_mode != _GITLINK and old_blob.strip(b"0")
            blobs[os.fsdecode(path)] = old_blob if known else blobs.get(os.fsdecode(path), b"")
        old_sizes = self._sizes([blob for blob in blobs.values() if blob])
        return [
            Change(path, max(old_sizes.get(blob, 0), _size(self.root / path)))
            for path, blob in sorted(blobs.items())
        ]

    def diff(self, exclude: Sequence[str]) -> bytes:
        """The patch from the commit to the files as they are: for `git apply` at the tree's top."""
        return self._diff(("--patch", "--unified=3", "--binary", "--full-index"), exclude)

    def packed(self, exclude: Sequence[str]) -> list[str]:
        """The files that the patch holds in packed form, as one or the other side is binary."""
        lines = self._diff(("--numstat", "-z", "--relative"), exclude).split(b"\0")
        return [os.fsdecode(line[4:]) for line in lines if line.startswith(b"-\t-\t")]

    def untracked(self, exclude: Sequence[str]) -> list[str]:
        """The files neither tracked nor ignored; before the first commit also the tracked ones."""
        tracked = ("--cached",) if self.commit is None else ()
        command = ("ls-files", "-z", "--others", *tracked, "--exclude-standard")
        out = _git(self.root, *command, "--", *_pathspec(exclude))
        return sorted({os.fsdecode(path) for path in out.split(b"\0") if path})

    def holds(self, path: str) -> bool:
        """Whether all at or below a path is tracked, or new and not ignored; Python's own does not count."""
        spec = ("--", f":(literal){path}")
        ignored = ("--others", "--ignored", "--exclude-standard", "--directory")
        missing = _git(self.root, "ls-files", "-z", *ignored, *spec).split(b"\0")
        if any(b"__pycache__" not in name for name in missing if name):
            return False
        known = ("--cached", "--others", "--exclude-standard", "--directory")
        return bool(_git(self.root, "ls-files", "-z", *known, *spec))

    def files(self, exclude: Sequence[str]) -> tuple[list[str], list[str]]:
        """The tracked files, and those neither tracked nor ignored; `.env*` among them.

        A submodule, and another repository within, is one path: of its folder.
        """
        spec = (".", *(f":(exclude,literal){path}" for path in exclude))
        kinds = (("--cached",), ("--others", "--exclude-standard"))
        tracked, untracked = (
            {os.fsdecode(path).rstrip("/") for path in out.split(b"\0") if path}
            for out in (_git(self.root, "ls-files", "-z", *kind, "--", *spec) for kind in kinds)
        )
        return sorted(tracked), sorted(untracked - tracked)

    def _diff(self, flags: Sequence[str], exclude: Sequence[str]) -> bytes:
        if self.commit is None:
            return b""
        # every option that a user's git config could turn into something `git apply` cannot read
        plain = (
            *("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames"),
            *(
                "--src-prefix=a/",
                "--dst-prefix=b/",
                "--submodule=short",
                "--ignore-submodules=dirty",
            ),
        )
        options = ("-c", "diff.relative=false", "-c", "core.quotePath=true")
        command = (*options, "diff", *plain, *flags, "HEAD", "--", *_pathspec(exclude))
        return _git(self.root, *command)

    def _sizes(self, blobs: Sequence[bytes]) -> dict[bytes, int]:
        if not blobs:
            return {}
        command = ("cat-file", "--batch-check=%(objectsize)", "--buffer")
        lines = _git(self.root, *command, stdin=b"\n".join(blobs) + b"\n").splitlines()
        return {blob: int(line) for blob, line in zip(blobs, lines, strict=True) if line.isdigit()}


def find_repository(root: Path) -> Repository | None:
    """The work tree that `root` lies in; None without git, outside of one, or if that ignores it.

    Raises ConfigError with git's own words if git refuses (for example because the owner differs).
    """
    try:
        answer = _run(root, "rev-parse", "--is-inside-work-tree", "--show-prefix")
    except FileNotFoundError:
        return None
    if answer.returncode and b"not a git repository" in answer.stderr:
        return None
    inside, _, prefix = _checked(root, answer).partition(b"\n")
    if inside != b"true" or (
        prefix.strip() and not _run(root, "check-ignore", "-q", ".").returncode
    ):
        return None
    head = _run(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    commit = head.stdout.decode().strip() if not head.returncode else None
    return Repository(root, commit, os.fsdecode(prefix.removesuffix(b"\n")))


def _pathspec(exclude: Sequence[str]) -> list[str]:
    return [".", *NEVER, *(f":(exclude,literal){path}" for path in exclude)]


def _size(path: Path) -> int:
    try:
        return 0 if path.is_symlink() or path.is_dir() else path.stat().st_size
    except OSError:
        return 0


def _git(root: Path, *command: str, stdin: bytes = b"") -> bytes:
    return _checked(root, _run(root, *command, stdin=stdin))


def _run(root: Path, *command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["git", *command],
        cwd=root,
        env=git_environment(),
        input=stdin,
        capture_output=True,
        check=False,
    )


def _checked(root: Path, answer: subprocess.CompletedProcess[bytes]) -> bytes:
    if answer.returncode:
        words = answer.stderr.decode(errors="replace").strip() or f"exit {answer.returncode}"
        raise ConfigError.of("code", f"git cannot read {root}: {words}")
    return answer.stdout
