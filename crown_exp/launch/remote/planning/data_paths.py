"""Data that lies on this machine alone, named in the config of a run that is to happen elsewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crown_exp.compute.archive import Taken, walk
from crown_exp.compute.git import find_repository
from crown_exp.config.places import display
from crown_exp.config.weights_source import KEY, FileSource, parse_source
from crown_exp.errors import ConfigError, Problem
from crown_exp.folder.urls import file_path

if TYPE_CHECKING:
    from crown_exp.compute.base import Target
    from crown_exp.launch.session import Session
    from crown_exp.launch.submit import Order

EVERYWHERE = ("/dev", "/proc", "/sys", "/usr", "/bin", "/etc")
"""Folders that every machine has, with what it has in them."""

SCRATCH = ("/tmp", "/var", "/opt", "/dev/shm")
"""Folders that every machine has, with something else in them."""

_WRITTEN = re.compile(r"cache|out(put)?s?(_?dir)?$|log_?dir|save|tmp|temp", re.I)
"""Names of keys that say where something is to be written: it is made there."""

_NAMED = re.compile(r"path|file|dir|folder|root|data|corpus|vocab|tokenizer", re.I)
"""Names of keys under which a bare word is a file, not a mere word that a file happens to have."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_LONGEST = 1000


def local_data(session: Session, order: Order, target: Target) -> Iterator[Problem]:
    """Paths in what the task is handed that exist here and will not exist there, with what to type instead."""
    config = order.composition.config
    yield from weights(session, str(config["checkpoint"]["init_from"] or ""), target)
    for top in ("task", *order.checked.bound):
        for key, text in texts(config[top], top):
            if path := path_in(key, text):
                yield from refused(session, key, text, path, target)


def texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Key and text of every text in a tree, but for the names of what is built."""
    if isinstance(value, str):
        if len(value) <= _LONGEST and "\n" not in value and "\0" not in value:
            yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            if name != "_target_":
                yield from texts(item, f"{key}.{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from texts(item, f"{key}[{number}]")


def path_in(key: str, text: str) -> Path | None:
    """The path that a value is; None for other words, and for what is not here or is found everywhere."""
    name = key.rpartition(".")[2]
    if _WRITTEN.search(name) or ("/" not in text and not _NAMED.search(name)):
        return None
    return path_of(text)


def path_of(text: str) -> Path | None:
    """The path, if there is something here and not on every machine."""
    if text.lower().startswith("file://"):
        try:
            text = file_path(text)
        except ValueError:
            return None
    elif _URL.match(text) or not text.strip():
        return None
    try:
        path = Path(text).expanduser()
        return path if holds(path) and not is_everywhere(path) else None
    except (OSError, RuntimeError):  # not ours to read; no such user
        return None


def holds(path: Path) -> bool:
    """Whether there is something: an empty folder is no data."""
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def is_everywhere(path: Path) -> bool:
    """Whether other machines have it as well."""
    absolute = path.absolute()
    if str(absolute) in ("/", *EVERYWHERE, *SCRATCH):
        return True
    return any(map(absolute.is_relative_to, EVERYWHERE)) and not any(
        map(absolute.is_relative_to, SCRATCH)
    )


def refused(session: Session, key: str, text: str, path: Path, target: Target) -> Iterator[Problem]:
    """The problem of a path that is here, unless it travels or is seen there too."""
    absolute, relative = path.absolute(), not path.is_absolute()
    inside = travelling(session, absolute)
    if inside is not None and relative and inside == text.removeprefix("./").rstrip("/"):
        return
    if target.shared:
        if relative:
            what = f"a job begins in a copy of the project, where it is not; {typed(key, absolute)}"
            yield Problem(key, f"{text!r}: {what}")
    elif inside is not None:
        what = f"the project lies elsewhere on machines of compute={target.name}"
        yield Problem(key, f"{text!r}: {what}; {typed(key, inside)}")
    else:
        yield Problem(key, only_here(text, path, target))


def only_here(text: str, path: Path, target: Target) -> str:
    """What is wrong with a path that no job sees, and what to type."""
    upload = f"type crown-exp upload {shlex.quote(display(path))} and name the URL that it prints"
    return f"{text!r} is only on this machine, not on those of compute={target.name}; {upload}"


def typed(key: str, value: object) -> str:
    """How a key is given a path. One place in a list cannot be typed."""
    quoted = shlex.quote(str(value))
    return f"name {quoted} there" if "[" in key else f"type {key}={quoted}"


def travelling(session: Session, path: Path) -> str | None:
    """The path relative to the project if all of it is among the files that travel, else None."""
    root = session.root.absolute()
    if path == root or not path.is_relative_to(root) or path.is_relative_to(session.settings.home):
        return None
    return path.relative_to(root).as_posix() if travels(root, path) else None


def travels(root: Path, path: Path) -> bool:
    """Whether all that lies at a path below a project's root is in its bundle (`compute.tree`)."""
    if any(part.startswith(".env") for part in path.relative_to(root).parts):
        return False  # secrets
    repository = find_repository(root)
    if repository is None:
        found = set(walk(root, (), Taken()))
        files = [path] if path.is_file() else [it for it in path.rglob("*") if it.is_file()]
        wanted = {it.relative_to(root).as_posix() for it in files if "__pycache__" not in it.parts}
        return wanted <= found
    between = [folder for folder in path.parents if folder.is_relative_to(root) and folder != root]
    for folder in reversed(between):
        if (
            folder / ".git"
        ).exists():  # a repository within, which the project has as a whole or not
            inner = folder.relative_to(root).as_posix()
            return repository.holds(inner) and travels(folder, path)
    return repository.holds(path.relative_to(root).as_posix())


def weights(session: Session, text: str, target: Target) -> Iterator[Problem]:
    """The problem of weights to begin with that lie in a file, or a store, of this machine alone."""
    if not text or target.shared:
        return
    try:
        asked = parse_source(text)
    except ConfigError:  # which is told elsewhere
        return
    if isinstance(asked, FileSource):
        if path := path_of(asked.url):
            yield Problem(KEY, only_here(text, path, target))
    elif asked.store and not asked.store.startswith(("s3://", "gs://", "az://")):
        what = f"compute={target.name} does not see that store; copy the run into one that it sees"
        yield Problem(KEY, f"{text!r}: {what}")
