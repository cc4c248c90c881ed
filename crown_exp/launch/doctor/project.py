"""Checks of the project: its directory, settings, home, git, and the file of secrets."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from crown_exp.compute.git import find_repository
from crown_exp.config.places import display
from crown_exp.config.settings import git_environment
from crown_exp.errors import ConfigError
from crown_exp.launch.doctor.base import Finding, Place

LEAST_BYTES = 2 * 10**9
GIT_SECONDS = 4.0
OTHERS = 0o077
"""The bits of a file's mode that let anybody but its owner in."""


def project(place: Place) -> Sequence[Finding]:
    """Whether we are in one, and whether it has a conf."""
    found = place.project
    if found is None:
        what = f"{Path.cwd()} is in no project"
        return [Finding("project", "warn", what, "crown-exp init")] if not place.problem else []
    if not found.conf:
        what, fix = f"{found.root} has no conf directory", "mkdir -p conf/experiment"
        return [Finding("project", "warn", what, fix)]
    presets = sum(len(list((conf / "experiment").rglob("*.yaml"))) for conf in found.conf)
    named = ", ".join(display(conf) for conf in found.conf)
    return [Finding("project", "ok", f"{found.root}, conf in {named}, presets: {presets}")]


def settings(place: Place) -> Sequence[Finding]:
    """Whether the environment and .env say what can be understood."""
    if place.settings is None:
        fix = "edit what is named; .env.example lists all settings"
        return [Finding("settings", "fail", line, fix) for line in place.problem.splitlines()]
    found = f"user {place.settings.user}, store {place.settings.storage.root}"
    return [Finding("settings", "ok", found)]


def home(place: Place) -> Sequence[Finding]:
    """Whether CROWN_HOME, or where it would be made, can be written and has room."""
    if place.settings is None:
        return []
    path = place.settings.home
    there = next(at for at in (path, *path.parents) if at.exists())
    elsewhere = "or set CROWN_HOME to another place"
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        what = f"{path} cannot be written: {(error.strerror or str(error)).lower()}"
        return [Finding("home", "fail", what, f"change its permissions {elsewhere}")]
    found = f"{path}, {free / 1e9:,.1f} GB free"
    if free < LEAST_BYTES:
        return [Finding("home", "warn", found, f"crown-exp prune   # {elsewhere}")]
    return [Finding("home", "ok", found)]


def git(place: Place) -> Sequence[Finding]:
    """Whether there is a repository, in what state, and whether it leaves our own files alone."""
    if shutil.which("git") is None:
        what = "git is not installed: a run keeps its code without a commit to compare with"
        return [Finding("git", "warn", what, "install git")]
    try:
        found = find_repository(place.root)
        if found is None:
            what = f"{place.root} is in no repository: runs have no commit to compare with"
            return [Finding("git", "warn", what, "git init")]
        differ = len(found.changes([])) + len(found.untracked([]))
    except ConfigError as error:
        return [Finding("git", "fail", str(error), "do what git says")]
    commit = f"commit {found.commit[:8]}" if found.commit else "no commit yet"
    state = f"{commit}, {differ:,} files differ from it" if differ else f"{commit}, clean"
    return [Finding("git", "ok", state), *unignored(place)]


def unignored(place: Place) -> Sequence[Finding]:
    """What lies in the work tree and should not be taken into a commit."""
    own = [place.root / ".env"] if (place.root / ".env").exists() else []
    if place.settings is not None and place.settings.home.is_relative_to(place.root):
        own.append(place.settings.home)
    names = [str(path.relative_to(place.root)) for path in own]
    lines = [name for name in names if not asked_git(place.root, "check-ignore", "-q", name)]
    if not lines:
        return []
    what = f"git does not ignore {' and '.join(lines)}"
    fix = f"printf '%s\\n' {' '.join(lines)} >> .gitignore"
    return [Finding("git ignore", "warn", what, fix)]


def asked_git(root: Path, *words: str) -> bool:
    """Whether git says yes."""
    done = subprocess.run(
        ["git", *words], cwd=root, env=git_environment(), stdin=subprocess.DEVNULL,
        capture_output=True, check=False, timeout=GIT_SECONDS,
    )  # fmt: skip
    return done.returncode == 0


def secrets_file(place: Place) -> Sequence[Finding]:
    """Whether .env is for its owner's eyes only."""
    path = place.root / ".env"
    if not path.exists():
        return [Finding("secrets", "ok", "no .env here")]
    if shutil.which("git") and asked_git(place.root, "ls-files", "--error-unmatch", ".env"):
        what = ".env is in git, with the secrets it holds"
        return [Finding("secrets", "fail", what, "git rm --cached .env; then change the secrets")]
    mode = path.stat().st_mode
    if os.name == "posix" and mode & OTHERS:
        what = f"others may read .env (mode {mode & 0o777:o})"
        return [Finding("secrets", "warn", what, f"chmod 600 {display(path)}")]
    return [Finding("secrets", "ok", ".env is for you alone")]
